package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/go-modelzoo/zoo/engine/kernel/cpu"
)

// trainings are the training steps that the project compares itself on: MODEL:BATCH, with :frozen the features stay as they are.
var trainings = []string{"resnet18:16", "resnet50:8", "mobilenet_v2:16", "vgg16:4", "squeezenet1_1:16"}

// step is a training step to time.
type step struct {
	model  string
	batch  int
	frozen bool
}

func parseStep(spec string) (step, error) {
	parts := strings.Split(spec, ":")
	if len(parts) == 2 || len(parts) == 3 && parts[2] == "frozen" {
		if n, err := strconv.Atoi(parts[1]); err == nil && n > 0 {
			return step{parts[0], n, len(parts) == 3}, nil
		}
	}
	return step{}, fmt.Errorf("-models %s: give MODEL:BATCH or MODEL:BATCH:frozen", spec)
}

func (s step) String() string {
	if s.frozen {
		return fmt.Sprintf("%s:%d:frozen", s.model, s.batch)
	}
	return fmt.Sprintf("%s:%d", s.model, s.batch)
}

// pair holds the rounds of one step, zoo's and the peer's.
type pair struct {
	step
	zoo, peer []measurement
}

// train times training steps of zoo and PyTorch in turns, each time in a new process, and writes the report.
func train(ctx context.Context, c config) error {
	var pairs []*pair
	for _, spec := range c.models {
		s, err := parseStep(spec)
		if err != nil {
			return err
		}
		pairs = append(pairs, &pair{step: s})
	}
	peer := ""
	for round := range c.rounds {
		for _, p := range pairs {
			zoo := []string{"bench", p.model, "--train", "--batch", fmt.Sprint(p.batch), "--precision", c.precision, "--threads", fmt.Sprint(c.threads), "--duration", "0s", "--runs", "5"}
			if p.frozen {
				zoo = append(zoo, "--freeze", "features")
			}
			theirs, err := timed(ctx, nil, c.torchPython, "bench/train_peer.py", fmt.Sprint(c.threads), p.String())
			if err != nil {
				return err
			}
			ours, err := timed(ctx, nil, c.zoo, zoo...)
			if err != nil {
				return err
			}
			peer = theirs.Peer
			p.zoo, p.peer = append(p.zoo, ours), append(p.peer, theirs)
			log.Printf("round %d, %v: %.1f ms an image, %s %.1f", round+1, p.step, ours.MSPerImage, peer, theirs.MSPerImage)
		}
		var b bytes.Buffer
		c.trainingReport(&b, pairs, peer, round+1)
		if err := os.WriteFile(c.out, b.Bytes(), 0o644); err != nil { // after each round, so that a long run may be cut short
			return err
		}
	}
	return nil
}

// medians returns the median time and the greatest memory of the rounds.
func medians(ms []measurement) (time, memory float64) {
	var times []float64
	for _, m := range ms {
		times = append(times, m.MSPerImage)
		memory = max(memory, m.PeakRSSMB)
	}
	slices.Sort(times)
	n := len(times)
	return (times[(n-1)/2] + times[n/2]) / 2, memory
}

func (c config) trainingReport(w io.Writer, pairs []*pair, peer string, rounds int) {
	info := cpu.Describe()
	fmt.Fprintf(w, `# Benchmarks of training

Milliseconds an image of a training step: forward, backward, SGD with momentum, on random 224×224 images in memory and 1000 classes, on %d
threads of one machine. zoo at %s precision beside %s, in turns, each time in a new process: the median of five steps after two to warm up, and of
these medians that of %d rounds. A ratio is PyTorch's time over zoo's: above 1, zoo is faster. Memory is the most that the process has had resident.

Machine: %s, %d cores, %s; L2 %d KiB a core.

Made by:

    make build && %s

| | batch | trained | zoo, ms | PyTorch, ms | ratio | zoo, MB | PyTorch, MB |
| --- | ---: | --- | ---: | ---: | ---: | ---: | ---: |
`, c.threads, c.precision, peer, rounds, info.Model, info.Cores, strings.Join(info.Features, " "), info.L2>>10, c.command)
	sum, mean := 0.0, geometric{}
	for _, p := range pairs {
		ours, memory := medians(p.zoo)
		theirs, peerMemory := medians(p.peer)
		ratio := theirs / ours
		sum += ratio
		mean.add(ratio)
		what := "everything"
		if p.frozen {
			what = "classifier"
		}
		fmt.Fprintf(w, "| %s | %d | %s | %.1f | %.1f | %.2f | %.0f | %.0f |\n", p.model, p.batch, what, ours, theirs, ratio, memory, peerMemory)
	}
	fmt.Fprintf(w, "\nMean of the ratios: %.2f arithmetic, %.2f geometric.\n", sum/float64(len(pairs)), mean.mean())
}
