// Package preprocess holds the numbers that model cards, transforms and networks must agree on.
package preprocess

// MaxSide is the longest side, in pixels, that a card may ask an image to be resized or cropped to, and that transforms make.
const MaxSide = 1 << 15

// ImageNet returns the means and deviations of ImageNet's pixels in [0, 1], red, green, blue, as torchvision and timm have them.
func ImageNet() (mean, std [3]float64) {
	return [3]float64{0.485, 0.456, 0.406}, [3]float64{0.229, 0.224, 0.225}
}
