// Package transforms prepares images for networks as torchvision.transforms does on PIL images: same names, same
// parameters, same arithmetic.
//
// Resizing is PIL's: antialiased, two passes on 8-bit samples, coefficients rounded to 22 bits, so that the bytes are
// those of PIL on the same pixels. The colour operations follow PIL's ImageEnhance and ImageOps byte for byte as well.
//
// Preprocess is the deterministic chain of inference (resize, centre crop, normalise) in the form that registry rows and
// model cards hold; it computes only the pixels that the crop keeps. Training pipelines are made of Transforms, put
// together with Compose, and end in Normalize.
//
// Random transforms draw from Scratch.Rand and nothing else. Scratch.Seed derives the generator from the seed of the run, the
// epoch and the index of the image, so that what happens to an image does not depend on which worker loads it.
//
// Transforms and Preprocess are values without state, safe for concurrent use; a Scratch belongs to one goroutine.
package transforms
