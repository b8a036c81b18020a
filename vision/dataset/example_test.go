package dataset_test

import (
	"context"
	"fmt"
	"image"
	"image/png"
	"log"
	"os"
	"path/filepath"

	"github.com/go-modelzoo/zoo/vision"
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

// A folder from elsewhere is looked through before hours of training: what cannot be decoded is named and left out.
func ExampleDataset_Unreadable() {
	dir, err := os.MkdirTemp("", "photos")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	for i := range 4 {
		drawPhoto(filepath.Join(dir, []string{"ants", "bees"}[i%2], fmt.Sprintf("%d.png", i)))
	}
	if err := os.Truncate(filepath.Join(dir, "bees", "3.png"), 40); err != nil {
		log.Fatal(err)
	}

	all, err := dataset.ImageFolder(dir)
	if err != nil {
		log.Fatal(err)
	}
	bad, err := all.Unreadable(context.Background(), vision.Limits{})
	if err != nil {
		log.Fatal(err)
	}
	for _, b := range bad {
		fmt.Println("left out", filepath.Base(b.Path))
	}
	fmt.Println(all.Without(bad).Counts())
	// Output:
	// left out 3.png
	// [2 1]
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
