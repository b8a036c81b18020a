package efficientnet

import (
	"github.com/go-modelzoo/zoo/graph"
	"github.com/go-modelzoo/zoo/sdk"
)

const paperV2 = "Tan and Le: EfficientNetV2: Smaller Models and Faster Training, 2021, arXiv:2104.00298"

// normV2 is the batch norm of V2.
var normV2 = graph.Norm{Eps: 1e-3}

// lastV2 is the number of filters of the last convolution.
const lastV2 = 1280

// configsV2 is table 4 and its larger siblings.
var configsV2 = []struct {
	name       string
	stem       int
	stages     []stage
	resolution int
	dropout    float64
}{
	{"efficientnet_v2_s", 24, []stage{
		{fused, 1, 3, 1, 24, 2, "stage1"},
		{fused, 4, 3, 2, 48, 4, "stage2"},
		{fused, 4, 3, 2, 64, 4, "stage3"},
		{mbconv, 4, 3, 2, 128, 6, ""},
		{mbconv, 6, 3, 1, 160, 9, "stage4"},
		{mbconv, 6, 3, 2, 256, 15, "stage5"},
	}, 384, 0.2},
	{"efficientnet_v2_m", 24, []stage{
		{fused, 1, 3, 1, 24, 3, "stage1"},
		{fused, 4, 3, 2, 48, 5, "stage2"},
		{fused, 4, 3, 2, 80, 5, "stage3"},
		{mbconv, 4, 3, 2, 160, 7, ""},
		{mbconv, 6, 3, 1, 176, 14, "stage4"},
		{mbconv, 6, 3, 2, 304, 18, ""},
		{mbconv, 6, 3, 1, 512, 5, "stage5"},
	}, 480, 0.3},
	{"efficientnet_v2_l", 32, []stage{
		{fused, 1, 3, 1, 32, 4, "stage1"},
		{fused, 4, 3, 2, 64, 7, "stage2"},
		{fused, 4, 3, 2, 96, 7, "stage3"},
		{mbconv, 4, 3, 2, 192, 10, ""},
		{mbconv, 6, 3, 1, 224, 19, "stage4"},
		{mbconv, 6, 3, 2, 384, 25, ""},
		{mbconv, 6, 3, 1, 640, 7, "stage5"},
	}, 480, 0.4},
}

func v2() []sdk.Model {
	var models []sdk.Model
	for _, c := range configsV2 {
		n := network{stem: c.stem, stages: c.stages, last: lastV2, norm: normV2}
		models = append(models, sdk.Model{
			Name: c.name, Paper: paperV2, Input: graph.Shape{C: 3, H: c.resolution, W: c.resolution},
			MinSize: 1, // torchvision states 33 for the weights and takes images of any size
			Options: options(c.dropout), Build: n.build,
		})
	}
	return models
}
