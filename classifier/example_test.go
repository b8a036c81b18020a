package classifier_test

import (
	"context"
	"fmt"
	"log"

	"github.com/go-modelzoo/zoo/classifier"
	"github.com/go-modelzoo/zoo/finetune"
	"github.com/go-modelzoo/zoo/hub"
	"github.com/go-modelzoo/zoo/hub/sign"
	"github.com/go-modelzoo/zoo/plugins"
	"github.com/go-modelzoo/zoo/sdk"
	"github.com/go-modelzoo/zoo/vision"
)

func Example() {
	sdk.ServeEmbedded(plugins.All) // first in main: a family's process is this program, started again
	c, err := classifier.Open(classifier.Config{})
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	ctx := context.Background()
	m, err := c.Load(ctx, "resnet50", classifier.LoadOptions{})
	if err != nil {
		log.Fatal(err)
	}
	defer m.Close()
	image, err := vision.DecodeFile("cat.jpg", vision.Limits{})
	if err != nil {
		log.Fatal(err)
	}
	predictions, err := m.Classify(ctx, []*vision.Image{image}, 5)
	if err != nil {
		log.Fatal(err)
	}
	for _, p := range predictions[0] {
		fmt.Printf("%5.1f %% %s\n", 100*p.Prob, p.Class)
	}
}

// Vectors of images, for search or a classifier of one's own: files are read and prepared while others run.
func ExampleModel_Stream() {
	sdk.ServeEmbedded(plugins.All)
	c, err := classifier.Open(classifier.Config{})
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	ctx := context.Background()
	m, err := c.Load(ctx, "resnet50", classifier.LoadOptions{Outputs: []string{"embedding"}})
	if err != nil {
		log.Fatal(err)
	}
	defer m.Close()
	items := func(yield func(classifier.Item) bool) {
		for _, file := range []string{"cat.jpg", "dog.jpg"} {
			if !yield(classifier.Item{Name: file}) {
				return
			}
		}
	}
	err = m.Stream(ctx, items, func(r classifier.Result) error {
		if r.Err != nil {
			return r.Err
		}
		fmt.Println(r.Item.Name, len(r.Outputs[0]))
		return nil
	})
	if err != nil {
		log.Fatal(err)
	}
}

// Which parts of a photograph speak for a class, as a picture: here for class 281, a tabby, in place of the most probable one.
func ExampleModel_Explain() {
	sdk.ServeEmbedded(plugins.All)
	c, err := classifier.Open(classifier.Config{})
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	ctx := context.Background()
	m, err := c.Load(ctx, "resnet50", classifier.LoadOptions{Outputs: []string{"logits", "gradcam:281"}})
	if err != nil {
		log.Fatal(err)
	}
	defer m.Close()
	photo, err := vision.DecodeFile("cat.jpg", vision.Limits{})
	if err != nil {
		log.Fatal(err)
	}
	why, err := m.Explain(ctx, []*vision.Image{photo})
	if err != nil {
		log.Fatal(err)
	}
	picture, err := m.Overlay(photo, why[0])
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(why[0].Class, why[0].Prob, picture.Bounds())
}

// A model fitted to photos/CLASS/*.jpg, in the family's process, then published with a signature.
func ExampleClient_Finetune() {
	sdk.ServeEmbedded(plugins.All)
	c, err := classifier.Open(classifier.Config{})
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	ctx := context.Background()
	base, err := c.Find(ctx, "resnet50") // pulled and verified if the store has it not
	if err != nil {
		log.Fatal(err)
	}
	config := finetune.Defaults()
	config.Data, config.Freeze = "photos", []string{"features"}
	made, err := c.Finetune(ctx, base, config, classifier.FinetuneOptions{Out: "my-photos"})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%.1f %% of %d images, %s\n", 100*made.Metrics.Top1, made.Metrics.Images, made.Report)

	key, err := sign.PrivateKey("zoo.key", "password")
	if err != nil {
		log.Fatal(err)
	}
	p, err := c.Hub.Push(ctx, made.Model, "oci://registry.example.org/models", hub.PushOptions{Tag: "v1", Key: &key})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(p.Reference, p.Manifest.Digest)
}
