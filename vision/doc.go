// Package vision turns image files into pixels.
//
// Decode and its siblings read JPEG, PNG, GIF, BMP, TIFF, WebP (of animations the first frame) and PNM into one form, Image:
// 8-bit RGB, rows top to bottom, channels interleaved, no padding, EXIF orientation applied. What happens to other kinds of pixels
// is what PIL's Image.open(f).convert("RGB") does, so that a network sees the pixels it was trained on:
//
//   - JPEG follows libjpeg-turbo's defaults (accurate integer inverse transform, triangle-filter chroma upsampling);
//   - gray is repeated in the three channels and palettes are expanded;
//   - alpha is dropped, not blended: a transparent pixel shows the colour stored under it;
//   - CMYK and YCCK JPEGs are taken as inverted (Adobe's convention) and converted without a colour profile;
//   - 16-bit gray is clipped to 255, not scaled (PIL opens it as a 32-bit integer image), nor inverted where a TIFF has zero
//     white; 16-bit colour keeps its high byte.
//
// Orientation is the one difference: PIL leaves it to ImageOps.exif_transpose, which Decode always applies. A value
// outside 1..8 is ignored.
//
// Files come from anywhere, so a decoder believes nothing: the size in the header is held against Limits before pixels are
// allocated, and no file makes it panic. A file that is cut off is an error. Other damage is one where the format can tell; a JPEG,
// which cannot, gives the picture that libjpeg makes of it.
//
// All functions are safe for concurrent use; an Image is plain data, safe for concurrent reading.
//
// The transforms of torchvision are in vision/transforms, folders and tables of labelled images in vision/dataset.
package vision
