package finetune_test

import (
	"context"
	"fmt"
	"log"

	"github.com/go-modelzoo/zoo/finetune"
	"github.com/go-modelzoo/zoo/graph"
	"github.com/go-modelzoo/zoo/vision/transforms"
)

// perceptron stands for a family's network, such as resnet.Family()'s.
func perceptron(input graph.Shape, classes int) (*graph.Graph, error) {
	b := graph.NewBuilder(input, classes)
	b.Group("conv1", "conv1")
	b.Group("fc", "fc")
	b.Classifier("fc")
	x := b.ReLU(b.Conv2d("conv1", b.Input(), graph.Conv{Out: 16, Kernel: graph.Square(3), Bias: true}))
	return b.Finish(b.Linear("fc", b.Features(b.Flatten(b.GlobalAvgPool(x))), graph.Fc{Out: classes}))
}

func ExampleRun() {
	m := finetune.Model{
		Name: "perceptron", Build: perceptron, Input: graph.Shape{C: 3, H: 224, W: 224},
		Weights: "perceptron.safetensors", Preprocess: transforms.ImageNet(256, 224),
	}
	c := finetune.Defaults()
	c.Data, c.Freeze, c.Epochs = "photos", []string{"features"}, 20
	result, err := finetune.Run(context.Background(), m, c, "runs/photos", func(e finetune.Event) {
		if e.Kind == finetune.KindEpoch {
			fmt.Printf("epoch %d: %.1f %%\n", e.Epoch, 100*e.Metrics.Top1)
		}
	})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(result.Path, result.Report)
}
