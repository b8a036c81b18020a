package dataset_test

import (
	"context"
	"fmt"
	"image"
	"image/png"
	"log"
	"os"
	"path/filepath"

	"github.com/go-modelzoo/zoo/vision/dataset"
	"github.com/go-modelzoo/zoo/vision/transforms"
)

// An epoch of training data: a folder per class, a validation part held back, torchvision's usual augmentation.
func ExampleLoader_Epoch() {
	dir, err := os.MkdirTemp("", "photos")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	for i := range 20 {
		drawPhoto(filepath.Join(dir, []string{"ants", "bees"}[i%2], fmt.Sprintf("%d.png", i)))
	}

	all, err := dataset.ImageFolder(dir)
	if err != nil {
		log.Fatal(err)
	}
	train, val, err := all.Split(0.2, 1)
	if err != nil {
		log.Fatal(err)
	}
	loader, err := dataset.NewLoader(train, dataset.LoaderConfig{
		BatchSize:  8,
		Sampling:   dataset.Shuffled,
		Transform:  transforms.Compose{transforms.RandomResizedCrop{Size: 32}, transforms.RandomHorizontalFlip{}},
		Width:      32,
		Height:     32,
		Normalize:  transforms.ImageNet(0, 0).Normalize(),
		CacheBytes: 256 << 20,
	})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(all.Classes, "train", train.Counts(), "val", val.Counts())
	for batch, err := range loader.Epoch(context.Background(), 0, 0) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(batch.N, "images", len(batch.Images), "values")
	}
	// Output:
	// [ants bees] train [8 8] val [2 2]
	// 8 images 24576 values
	// 8 images 24576 values
}

func drawPhoto(path string) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		log.Fatal(err)
	}
	f, err := os.Create(path)
	if err != nil {
		log.Fatal(err)
	}
	defer f.Close()
	if err := png.Encode(f, image.NewGray(image.Rect(0, 0, 48, 40))); err != nil {
		log.Fatal(err)
	}
}
