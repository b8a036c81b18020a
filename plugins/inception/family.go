// Package inception is the family of Inception networks: GoogLeNet (V1), BN-Inception (V2) and Inception V3.
package inception

import (
	_ "embed"

	"github.com/go-modelzoo/zoo/graph"
	"github.com/go-modelzoo/zoo/internal/preprocess"
	"github.com/go-modelzoo/zoo/plugins/internal/blocks"
	"github.com/go-modelzoo/zoo/sdk"
)

//go:embed plugin.json
var manifest []byte

// Options that GoogLeNet and Inception V3 share.
var (
	auxLogits      = blocks.Switch("aux_logits", true, "build the auxiliary classifiers, which only training uses")
	transformInput = blocks.Switch("transform_input", false, "re-normalise images from ImageNet's mean and deviation to 0.5, as torchvision's pretrained weights expect")
)

// renormalise maps ImageNet's normalisation to that of mean 0.5 and deviation 0.5.
func renormalise(b *graph.Builder, x *graph.Node) *graph.Node {
	mean, std := preprocess.ImageNet()
	var scale, shift [3]float32
	for c := range 3 {
		scale[c], shift[c] = float32(std[c]/0.5), float32((mean[c]-0.5)/0.5)
	}
	return b.Affine(x, scale[:], shift[:])
}

// basic is torchvision's BasicConv2d: conv, bn, ReLU.
func basic(b *graph.Builder, name string, x *graph.Node, c graph.Conv) *graph.Node {
	s := b.Scope(name)
	return s.ReLU(s.BatchNorm("bn", s.Conv2d("conv", x, c), graph.Norm{Eps: 1e-3}))
}

// Family returns the Inception networks.
func Family() sdk.Family {
	return sdk.MustFamily(manifest,
		sdk.Model{
			Name: "googlenet", Paper: paperV1, Input: blocks.ImageNet, MinSize: 15, Build: buildV1,
			Options: []sdk.Option{auxLogits, transformInput, blocks.Dropout(0.2), auxDropout},
		},
		sdk.Model{
			Name: "inception_v2", Paper: paperV2, Input: blocks.ImageNet, MinSize: 1, Build: buildV2,
			Options: []sdk.Option{blocks.Dropout(0.2)},
		},
		sdk.Model{
			Name: "inception_v3", Paper: paperV3, Input: graph.Shape{C: 3, H: 299, W: 299}, MinSize: 75, Build: buildV3,
			Options: []sdk.Option{auxLogits, transformInput, blocks.Dropout(0.5)},
		},
	)
}
