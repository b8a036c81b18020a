package vision_test

import (
	"fmt"
	"image"
	"image/color"
	"log"

	"github.com/go-modelzoo/zoo/vision"
	"github.com/go-modelzoo/zoo/vision/transforms"
)

// A picture that a program has in memory, such as a frame of a camera, made ready for a network.
func ExampleFromImage() {
	frame := image.NewYCbCr(image.Rect(0, 0, 640, 480), image.YCbCrSubsampleRatio420)
	for i := range frame.Y {
		frame.Y[i] = 200
	}
	for i := range frame.Cb {
		frame.Cb[i], frame.Cr[i] = 128, 128
	}

	img, err := vision.FromImage(frame.SubImage(image.Rect(80, 0, 560, 480)))
	if err != nil {
		log.Fatal(err)
	}
	p := transforms.ImageNet(256, 224)
	width, height := p.OutputSize(img.Width, img.Height)
	values := make([]float32, p.Normalize().Len(width, height)) // rows of pixels, channels last
	if err := p.Apply(img, values); err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%dx%d, then %dx%d, first pixel %.3f\n", img.Width, img.Height, width, height, values[:3])
	fmt.Println(img.NRGBA().At(0, 0) == color.Color(color.NRGBA{R: 200, G: 200, B: 200, A: 255}))
	// Output:
	// 480x480, then 224x224, first pixel [1.307 1.466 1.681]
	// true
}
