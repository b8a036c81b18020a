package classifier

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/go-modelzoo/zoo/hub"
	"github.com/go-modelzoo/zoo/hub/card"
	"github.com/go-modelzoo/zoo/weights"
)

// Pull downloads a model into the store, or finds it there.
func (c *Client) Pull(ctx context.Context, ref string) (*hub.Model, error) {
	m, err := c.Hub.Pull(ctx, ref)
	if errors.Is(err, hub.ErrNotFound) {
		if known, e := c.known(ctx, ref); e == nil && !known {
			return nil, c.unknown(ctx, ref)
		}
	}
	return m, err
}

// known reports whether the index lists a model of that name, or the reference is no name.
func (c *Client) known(ctx context.Context, ref string) (bool, error) {
	if strings.Contains(ref, "://") {
		return true, nil
	}
	k, err := c.row(ctx, ref)
	return k != nil, err
}

// Imported is what Import took in.
type Imported struct {
	Model *hub.Model
	// Notes are warnings for the user, such as tensors with NaN.
	Notes []string
}

// Import checks a checkpoint file against the network that the card describes and takes it into the store under the card's name.
// Nothing is stored unless every tensor has its place.
func (c *Client) Import(ctx context.Context, file string, k *card.Card, allowNewClassifier bool) (*Imported, error) {
	ck := &Checkpoint{Name: k.Name, Card: *k}
	g, err := c.Host.Build(ctx, ck.Network())
	if err != nil {
		return nil, err
	}
	f, err := weights.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close() // only read
	var notes []string
	report := weights.Match(weights.Wants(g), f)
	if allowNewClassifier && report.OnlyClassifier() {
		fresh, err := report.AllowNewClassifier()
		if err != nil {
			return nil, err
		}
		return nil, fmt.Errorf("%s lacks %s for %d classes: import it with the classes it has, then `zoo finetune` replaces the classifier", file, strings.Join(fresh, ", "), k.Classes)
	}
	if err := report.Err(); err != nil {
		return nil, fmt.Errorf("%s does not fit %s: %w", file, k.Model, err)
	}
	findings, err := weights.Verify(ctx, f)
	if err != nil {
		return nil, err
	}
	for _, x := range findings {
		notes = append(notes, "warning: "+x.String())
	}
	k.Params, k.MACs = g.NumParams(), g.MACs()
	m, err := c.Hub.Import(ctx, file, k)
	if err != nil {
		return nil, err
	}
	return &Imported{m, notes}, nil
}

// UseWeights makes a checkpoint use the weights in a file of any format that package weights reads.
func (ck *Checkpoint) UseWeights(file string) error {
	f, err := weights.Open(file)
	if err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	ck.Path, ck.SHA256, ck.Source = file, "", file
	return nil
}
