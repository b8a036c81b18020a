package weights_test

import (
	"fmt"
	"log"
	"os"
	"path/filepath"

	"github.com/go-modelzoo/zoo/weights"
)

func Example() {
	dir, err := os.MkdirTemp("", "weights")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "model.safetensors")
	out, err := os.Create(path)
	if err != nil {
		log.Fatal(err)
	}
	err = weights.WriteSafetensors(out, []weights.Tensor{
		weights.FromFloat32("fc.weight", []int{1000, 4}, make([]float32, 4000)),
		weights.FromFloat32("fc.bias", []int{1000}, make([]float32, 1000)),
	}, nil)
	if err != nil {
		log.Fatal(err)
	}
	if err := out.Close(); err != nil {
		log.Fatal(err)
	}

	f, err := weights.Open(path)
	if err != nil {
		log.Fatal(err)
	}
	defer f.Close()
	report := weights.Match([]weights.Want{
		{Name: "fc.weight", Shape: []int{2, 4}, Classifier: true},
		{Name: "fc.bias", Shape: []int{2}, Classifier: true},
	}, f)
	fresh, err := report.AllowNewClassifier()
	fmt.Println(f.Format(), f.Names(), fresh, err)
	// Output: safetensors [fc.weight fc.bias] [fc.weight fc.bias] <nil>
}
