package classifier

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/go-modelzoo/zoo/graph"
	"github.com/go-modelzoo/zoo/hub"
	"github.com/go-modelzoo/zoo/hub/card"
	"github.com/go-modelzoo/zoo/hub/registry"
	"github.com/go-modelzoo/zoo/hub/store"
	"github.com/go-modelzoo/zoo/internal/ui"
	"github.com/go-modelzoo/zoo/weights"
)

// Pull downloads a model into the store, or finds it there.
func (c *Client) Pull(ctx context.Context, ref string) (_ *hub.Model, err error) {
	ctx, end, err := c.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer end(&err)
	m, err := c.Hub.Pull(ctx, ref)
	if errors.Is(err, hub.ErrNotFound) {
		return nil, c.absent(ctx, ref, err)
	}
	return m, err
}

// absent explains that no source has a model: its name is mistyped, or it has no such weights, or none at all. Otherwise err says it.
func (c *Client) absent(ctx context.Context, ref string, err error) error {
	name, tag, bad := registry.SplitReference(ref)
	if bad != nil {
		return err // an OCI reference
	}
	list, unusable, failed := c.list(ctx)
	if failed != nil {
		return err
	}
	for _, m := range list {
		switch {
		case m.Name != name:
		case len(m.Tags) == 0:
			return fmt.Errorf("%s has no published weights, %w: `zoo train` makes some, `zoo import` takes a checkpoint", name, hub.ErrNotFound)
		case tag != "" && !slices.Contains(m.Tags, tag):
			return fmt.Errorf("%s has no weights %q, %w: it has %s", name, tag, hub.ErrNotFound, strings.Join(m.Tags, ", "))
		default:
			return err
		}
	}
	err = fmt.Errorf("%w %q: %w%s", ErrUnknownModel, ref, err, ui.DidYouMean(ref, names(list)))
	if unusable != nil {
		err = fmt.Errorf("%w; %w", err, unusable)
	}
	return err
}

// ImportOptions say what Import may do.
type ImportOptions struct {
	hub.ImportOptions
	// NewClassifier lets the classifier alone differ, and draws it anew.
	NewClassifier bool
}

// Imported is what Import took in.
type Imported struct {
	Model *hub.Model
	// Reference is what to ask for it by.
	Reference string
	// Notes are warnings for the user, such as tensors with NaN.
	Notes []string
}

// Import checks a checkpoint file against the network that the card describes and takes it into the store under the card's name.
// Nothing is stored unless every tensor has its place. The caller's card stays as it is; the stored one is Imported.Model.Card.
func (c *Client) Import(ctx context.Context, file string, k *card.Card, o ImportOptions) (_ *Imported, err error) {
	ctx, end, err := c.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer end(&err)
	full := *k
	k = &full
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
	report := weights.Match(weights.Wants(g), f)
	err = report.Err()
	var fresh []string
	if o.NewClassifier {
		fresh, err = report.AllowNewClassifier()
	}
	if err != nil {
		return nil, fmt.Errorf("%s does not fit %s: %w", file, k.Model, err)
	}
	findings, err := weights.Verify(ctx, f)
	if err != nil {
		return nil, err
	}
	var notes []string
	for _, x := range findings {
		notes = append(notes, "warning: "+x.String())
	}
	if len(fresh) > 0 {
		notes = append(notes, strings.Join(fresh, " and ")+" are drawn at random: `zoo finetune` trains them")
		if k.Origin, err = originOf(ctx, file); err != nil {
			return nil, err
		}
		dir, err := os.MkdirTemp("", "zoo-import-*")
		if err != nil {
			return nil, err
		}
		defer os.RemoveAll(dir) // what is left in a temporary folder does no harm
		if file, err = withFresh(dir, g, f, fresh, c.config.Seed); err != nil {
			return nil, err
		}
	}
	k.Params, k.MACs = g.NumParams(), g.MACs()
	m, err := c.Hub.Import(ctx, file, k, o.ImportOptions)
	if err != nil {
		return nil, err
	}
	return &Imported{m, c.reference(ctx, m), notes}, nil
}

// originOf describes a checkpoint of the user's own.
func originOf(ctx context.Context, path string) (*card.Origin, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close() // only read
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	d, err := store.HashFile(ctx, f)
	return &card.Origin{Digest: d, Size: info.Size(), Unverified: true}, err
}

// withFresh writes the network's parameters to a file in dir: those called fresh drawn from the seed, the others as f has them. What else f
// holds, such as another classifier, is left out.
func withFresh(dir string, g *graph.Graph, f *weights.File, fresh []string, seed uint64) (string, error) {
	var tensors []weights.Tensor
	for _, p := range g.Params {
		t, ok := f.Tensor(p.Name)
		if slices.Contains(fresh, p.Name) {
			t, ok = weights.FromFloat32(p.Name, p.Shape, p.Initialise(seed)), true
		}
		if ok {
			tensors = append(tensors, t)
		}
	}
	path := filepath.Join(dir, FolderWeights)
	return path, WriteFile(path, func(w io.Writer) error { return weights.WriteSafetensors(w, tensors, nil) })
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
