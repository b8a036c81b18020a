package main

import (
	"slices"
	"strings"
	"testing"
)

// What the tables for people say was held by no test, only what -o json does: a column could have had another's figures, or figures a thousand times too large.
func TestTableSaysOtherThanTheIndex(t *testing.T) {
	home := t.TempDir()
	for _, c := range []struct{ args, want string }{
		{"list resnet1*", "NAME FAMILY PARAMS GMACS INPUT TOP-1 WEIGHTS STATE"},
		{"list resnet1*", "resnet18 resnet 11.7M 1.81 3x224x224 69.8 IMAGENET1K_V1 index"},
		{"list resnet1*", "resnet110 resnet 1.7M 0.253 3x32x32 - architecture"},
		{"compare resnet18 lenet5", "resnet18 resnet 11.7M 1.81 69.8"},
		{"compare resnet18 lenet5", "lenet5 lenet 0.1M 0.0005 -"},
		{"summary lenet5", "conv1 conv2d 6x28x28 156 117,600 5x5"},
		{"summary lenet5", "145,856 parameters, 499,680 multiply-accumulates for one 1x32x32 image, 583.4 kB of float32 weights"},
		{"summary lenet5", "layer groups: conv1 conv2 fc1 fc2 fc3"},
		{"info resnet20", "name resnet20"},
		{"info resnet20", "family resnet"},
		{"info resnet20", "parameters 269,722"},
		{"info resnet20", "MACs 40,551,040 for one 3x32x32 image"},
		{"info resnet20", "classes 10"},
		{"info resnet20", "weights ZOO_CIFAR10"},
		{"info resnet20", "licence Apache-2.0"},
		{"info resnet20", "resize shorter side to 32, bilinear"},
		{"info resnet20", "crop centre 32×32"},
		{"info resnet20", "normalise mean [0.485 0.456 0.406], std [0.229 0.224 0.225]"},
		{"info resnet20", "acc@1 82.86 %"},
		{"info resnet20", "layer groups stem (464), layer1 (14,016), layer2 (51,072), layer3 (203,520), linear (650)"},
		{"info resnet20", "feature taps stage0 (stride 1, 16 channels), stage1 (stride 2, 32 channels), stage2 (stride 4, 64 channels)"},
	} {
		out := must(t, home, append(strings.Fields(c.args), "--offline")...)
		var lines []string
		for line := range strings.Lines(out) {
			lines = append(lines, strings.Join(strings.Fields(line), " "))
		}
		if !slices.Contains(lines, c.want) {
			t.Errorf("zoo %s says\n%s\nwithout the line %q", c.args, out, c.want)
		}
	}
	if lines := strings.Fields(must(t, home, "compare", "resnet18", "lenet5", "--offline")); slices.Index(lines, "lenet5") > slices.Index(lines, "resnet18") {
		t.Error("zoo compare does not begin with the cheapest network")
	}
}
