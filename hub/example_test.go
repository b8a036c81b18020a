package hub_test

import (
	"context"
	"fmt"
	"log"
	"os"

	"github.com/go-modelzoo/zoo/hub"
)

// A service that gets its weights from the company's mirror and from nowhere else.
func Example() {
	h, err := hub.Open(hub.Config{
		Sources:  []string{"oci://registry.acme.internal/ml/zoo"},
		Keys:     []string{"/etc/acme/zoo.pub"},
		LockFile: "zoo.lock",
		Warn:     func(text string) { log.Print(text) },
		Progress: func(p hub.Progress) {
			if p.Done == p.Total {
				log.Printf("%s: %s done", p.Name, p.Stage)
			}
		},
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return
	}
	defer h.Close()
	m, err := h.Pull(context.Background(), "resnet50:IMAGENET1K_V2")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return
	}
	fmt.Println(m.Path, m.Digest, m.Card.License, m.Source)
}
