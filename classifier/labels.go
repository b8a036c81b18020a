package classifier

import (
	_ "embed"
	"fmt"
	"strconv"
	"strings"

	"github.com/go-modelzoo/zoo/hub/card"
	"github.com/go-modelzoo/zoo/internal/ui"
)

// imagenet1k are the classes of ILSVRC-2012 in index order, by the names that torchvision's weights give them
// (torchvision/models/_meta.py, BSD-3-Clause).
//
//go:embed imagenet1k.txt
var imagenet1k string

// Labels returns the names of a card's classes: its own, else ImageNet's for a classifier of 1000 classes, else none.
func Labels(c *card.Card) []string {
	if len(c.Labels) > 0 {
		return c.Labels
	}
	if c.Classes == 1000 {
		return strings.Split(strings.TrimSpace(imagenet1k), "\n")
	}
	return nil
}

// ClassIndex finds the index of a class given by name, or by number where no class has the number for a name: folders called 1, 2, 3
// make classes of these names with the indices 0, 1, 2.
func ClassIndex(class string, labels []string, classes int) (int, error) {
	found := -1
	for i, l := range labels {
		if l != class {
			continue
		}
		if found >= 0 {
			return 0, fmt.Errorf("class %q is the name of both %d and %d: give the index", class, found, i)
		}
		found = i
	}
	if found >= 0 {
		return found, nil
	}
	if i, err := strconv.Atoi(class); err == nil {
		if i < 0 || i >= classes {
			return 0, fmt.Errorf("class %d is outside 0..%d", i, classes-1)
		}
		return i, nil
	}
	return 0, fmt.Errorf("class %q is none of the model's (%d): give the index, or one of the names that `zoo info MODEL -o json` lists%s", class, classes, ui.DidYouMean(class, labels))
}
