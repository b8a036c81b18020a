package classifier_test

import (
	"context"
	"fmt"
	"log"

	"github.com/go-modelzoo/zoo/classifier"
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
