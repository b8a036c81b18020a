package classifier

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"math"
	"slices"

	"github.com/go-modelzoo/zoo/graph"
	"github.com/go-modelzoo/zoo/host"
	"github.com/go-modelzoo/zoo/vision"
	"github.com/go-modelzoo/zoo/vision/transforms"
)

// Model is a network with its weights, open in the plugin process of its family. Safe for concurrent use.
type Model struct {
	Checkpoint
	Labels  []string // by class index; may be empty
	client  *Client
	session *host.Session
	taps    []Tap // the last outputs, if LoadOptions.Taps
	logits  int   // which output they are; -1: none
	cam     int   // which output is a class activation map; -1: none
	class   int   // whose map it is; -1: that of the largest logit
	batch   int
}

// LoadOptions say how to open a network. The zero value gives logits.
type LoadOptions struct {
	// Outputs are "logits", "embedding", "features" or names of feature taps; or, alone or with "logits", the name of a class activation map
	// (graph.ActivationMap). Classify, Evaluate and Explain need "logits", which are there by themselves only if neither Outputs nor Taps is set.
	Outputs []string
	// Taps adds all feature taps to Outputs, for Features. To classify with the same model, name "logits" in Outputs.
	Taps bool
	// NewClassifier allows weights whose classifier has another number of classes; it is then drawn anew.
	NewClassifier bool
	// Batch is how many images of one size run together; 0 means 8, less is an error.
	Batch int
}

// Load finds a model, pulls it if need be, and opens it.
func (c *Client) Load(ctx context.Context, ref string, o LoadOptions) (_ *Model, err error) {
	ctx, end, err := c.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer end(&err)
	ck, err := c.Find(ctx, ref)
	if err != nil {
		return nil, err
	}
	return c.Open(ctx, ck, o)
}

// Open opens a checkpoint. Without weights the network's are drawn from the client's seed.
func (c *Client) Open(ctx context.Context, ck *Checkpoint, o LoadOptions) (_ *Model, err error) {
	ctx, end, err := c.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer end(&err)
	if o.Batch < 0 {
		return nil, fmt.Errorf("a batch of %d images is out of range: use 1 or more, or 0 for %d", o.Batch, streamBatch)
	}
	var taps []Tap
	outputs := slices.Clone(o.Outputs)
	if o.Taps {
		var err error
		if taps, err = c.taps(ctx, ck); err != nil {
			return nil, err
		}
		if len(taps) == 0 {
			return nil, fmt.Errorf("%s has no feature taps", ck.Name)
		}
		for _, t := range taps {
			outputs = append(outputs, t.Name)
		}
	}
	s, err := c.Host.Open(ctx, host.Spec{
		Network:   ck.Network(),
		Weights:   host.Weights{Path: ck.Path, SHA256: ck.SHA256, NewClassifier: o.NewClassifier},
		Seed:      c.config.Seed,
		Precision: c.config.Precision, Threads: c.config.Threads, Device: c.config.Device,
		Outputs: outputs,
	})
	if err != nil {
		return nil, err
	}
	m := &Model{Checkpoint: *ck, Labels: Labels(&ck.Card), client: c, session: s, taps: taps, cam: -1, batch: cmp.Or(o.Batch, streamBatch)}
	if len(outputs) > 0 {
		m.logits = slices.Index(outputs, graph.LogitsOutput)
	}
	for i, name := range outputs {
		if cam, ok, _ := graph.ParseActivationMap(name); ok { // the plugin accepted it
			m.cam, m.class = i, cam.Class
		}
	}
	return m, nil
}

// Close releases the network; the plugin process stays for others. Later calls fail with host.ErrClosed. Closing twice is harmless.
func (m *Model) Close() error { return m.session.Close() }

// Info tells what runs: the plugin and its version, the precision, warnings about the weights.
func (m *Model) Info() host.SessionInfo { return m.session.Info() }

// Session gives access to raw inference and profiles.
func (m *Model) Session() *host.Session { return m.session }

// Preprocess returns what is done to an image before the network sees it.
func (m *Model) Preprocess() transforms.Preprocess {
	return transform(m.Card.Preprocess, m.Card.Input[0])
}

// Forward runs n images given as float32 NHWC values of the given shape and returns the outputs that the model was opened with.
func (m *Model) Forward(ctx context.Context, x []float32, n int, shape graph.Shape) ([]host.Output, error) {
	return m.infer(ctx, &host.Tensor{N: n, Shape: shape, Data: x})
}

// infer is the session's, which knows the network alone: here the model gets the name that its user knows.
func (m *Model) infer(ctx context.Context, t *host.Tensor) ([]host.Output, error) {
	out, err := m.session.Infer(ctx, t)
	if errors.Is(err, host.ErrNotFinite) {
		err = fmt.Errorf("%w: check the weights with `zoo verify %s`", err, m.Name)
	}
	return out, err
}

// Prediction is one class of an image's result.
type Prediction struct {
	Index int     `json:"index"`
	Class string  `json:"class"`
	Prob  float64 `json:"prob"`
}

// ErrNoLogits is returned by Classify and Evaluate of a model that was opened for other outputs.
var ErrNoLogits = errors.New("the model was opened without its logits: name \"logits\" in LoadOptions.Outputs")

// Classify returns each image's most probable classes, best first; top 0 or more than there are gives all. The first image that cannot be
// run ends it with an error that says which.
func (m *Model) Classify(ctx context.Context, images []*vision.Image, top int) ([][]Prediction, error) {
	if m.logits < 0 {
		return nil, ErrNoLogits
	}
	out := make([][]Prediction, len(images))
	i := 0
	err := m.Stream(ctx, decoded(images), func(r Result) error {
		if r.Err != nil {
			return r.Err
		}
		out[i] = m.Top(r.Outputs[m.logits], top)
		i++
		return nil
	})
	return out, err
}

// decoded makes items of images.
func decoded(images []*vision.Image) iter.Seq[Item] {
	return func(yield func(Item) bool) {
		for i, img := range images {
			if img == nil { // without an image an item is a file
				img = &vision.Image{}
			}
			if !yield(Item{Name: fmt.Sprintf("image %d", i), Image: img}) {
				return
			}
		}
	}
}

// Top turns one image's logits into probabilities and returns the largest.
func (m *Model) Top(logits []float32, top int) []Prediction {
	probs := Softmax(logits)
	order := make([]int, len(probs))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int {
		switch {
		case probs[a] > probs[b]:
			return -1
		case probs[a] < probs[b]:
			return 1
		}
		return 0
	})
	if top <= 0 || top > len(order) {
		top = len(order)
	}
	list := make([]Prediction, top)
	for i, k := range order[:top] {
		list[i] = Prediction{Index: k, Prob: probs[k]}
		if k < len(m.Labels) {
			list[i].Class = m.Labels[k]
		}
	}
	return list
}

// Softmax returns exp(x)/Σexp(x) in float64: the probabilities that Top and the commands show.
func Softmax(logits []float32) []float64 {
	out := make([]float64, len(logits))
	top := math.Inf(-1)
	for _, v := range logits {
		top = math.Max(top, float64(v))
	}
	sum := 0.0
	for i, v := range logits {
		out[i] = math.Exp(float64(v) - top)
		sum += out[i]
	}
	for i := range out {
		out[i] /= sum
	}
	return out
}
