// Command bench times zoo beside ONNX Runtime, OpenVINO and PyTorch, in turns on one machine, and writes docs/benchmarks.md; with -train
// it times training steps beside PyTorch's and writes docs/benchmarks-training.md.
//
// Every figure is the median over runs of one process, and the smallest of the rounds' medians, since a shared machine only ever
// adds time. Peers that are not installed are left out, and the report says so. A roofline tells what the same cores could reach at
// most: their units of arithmetic and their memory are measured right before each network.
package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-modelzoo/zoo/engine"
	"github.com/go-modelzoo/zoo/engine/kernel/cpu"
	"github.com/go-modelzoo/zoo/graph"
	"github.com/go-modelzoo/zoo/graph/onnx"
	"github.com/go-modelzoo/zoo/plugins"
)

// models are those that the project compares itself on.
var models = []string{
	"alexnet", "vgg16", "googlenet", "inception_v3", "resnet18", "resnet50", "resnext50_32x4d", "mobilenet_v2", "mobilenet_v3_large",
	"squeezenet1_1", "densenet121", "efficientnet_b0", "shufflenet_v2_x1_0", "convnext_tiny",
}

// subjects are what is timed: zoo at a precision, or a peer. With -avx2 behind its name a subject computes with AVX2 alone.
var subjects = []string{"zoo-high", "onnxruntime", "zoo-highest", "openvino-f32", "zoo-medium", "openvino-bf16", "torch-bf16"}

// config is the command line.
type config struct {
	zoo, python, torchPython, out string
	precision                     string // of training
	command                       string // that does this again, as far as it does not speak of this machine's files
	seconds                       float64
	rounds, threads               int
	models, subjects              []string
	batches                       []int
}

func main() {
	log.SetFlags(0)
	log.SetPrefix("bench: ")
	var c config
	var names, subs, batches string
	training := flag.Bool("train", false, "time training steps")
	flag.StringVar(&c.zoo, "zoo", "bin/zoo", "the program to time")
	flag.StringVar(&c.python, "python", "python3", "a Python with onnxruntime and openvino")
	flag.StringVar(&c.torchPython, "torch-python", "/usr/bin/python3", "a Python with torch and torchvision")
	flag.StringVar(&c.out, "out", "", "the report to write (default docs/benchmarks.md, docs/benchmarks-training.md with -train)")
	flag.StringVar(&c.precision, "precision", "high", "zoo's precision with -train")
	flag.Float64Var(&c.seconds, "seconds", 1, "time each subject this long in each round")
	flag.IntVar(&c.rounds, "rounds", 1, "rounds")
	flag.IntVar(&c.threads, "threads", 2, "threads for all")
	flag.StringVar(&names, "models", "", "models to time; with -train MODEL:BATCH or MODEL:BATCH:frozen (default "+strings.Join(models, ",")+"; "+strings.Join(trainings, ",")+" with -train)")
	flag.StringVar(&subs, "subjects", strings.Join(subjects, ","), "what to time")
	flag.StringVar(&batches, "batches", "1,8", "batch sizes")
	flag.Parse()
	timing := run
	defaults, out := models, "docs/benchmarks.md"
	if *training {
		timing, defaults, out = train, trainings, "docs/benchmarks-training.md"
	}
	names, c.out = cmp.Or(names, strings.Join(defaults, ",")), cmp.Or(c.out, out)
	c.models, c.subjects = strings.Split(names, ","), strings.Split(subs, ",")
	for _, b := range strings.Split(batches, ",") {
		n, err := strconv.Atoi(b)
		if err != nil || n < 1 {
			log.Fatalf("-batches %s: give numbers such as 1,8", batches)
		}
		c.batches = append(c.batches, n)
	}
	c.command = "go run ./bench"
	if *training {
		c.command += " -train"
	}
	flag.Visit(func(f *flag.Flag) {
		if !slices.Contains([]string{"train", "zoo", "python", "torch-python", "out"}, f.Name) {
			c.command += " -" + f.Name + " " + f.Value.String()
		}
	})
	if tier := os.Getenv(cpu.Env); tier != "" {
		c.command = cpu.Env + "=" + tier + " " + c.command
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := timing(ctx, c); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, c config) error {
	dir, err := os.MkdirTemp("", "zoo-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	r, hidden := newReport(c), &restriction{dir: dir}
	for _, name := range c.models {
		g, err := build(name)
		if err != nil {
			return err
		}
		file := filepath.Join(dir, name+".onnx")
		if err := export(g, file); err != nil {
			return err
		}
		for _, batch := range c.batches {
			r.prepare(name, g, batch)
			for range c.rounds {
				for _, s := range c.subjects {
					m, err := c.measure(ctx, hidden, s, name, file, g.Input, batch)
					if ctx.Err() != nil {
						return ctx.Err()
					}
					r.add(s, name, batch, m, err)
				}
			}
		}
		if err := os.Remove(file); err != nil {
			return err
		}
		var b bytes.Buffer
		r.write(&b)
		if err := os.WriteFile(c.out, b.Bytes(), 0o644); err != nil { // after each model, so that a long run may be cut short
			return err
		}
	}
	return nil
}

func build(name string) (*graph.Graph, error) {
	for _, f := range plugins.All() {
		if m, ok := f.Model(name); ok {
			return m.Graph(graph.Shape{}, 1000, nil)
		}
	}
	return nil, fmt.Errorf("no family has %s", name)
}

func export(g *graph.Graph, file string) error {
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	if err := onnx.Write(f, g, engine.ParamMap(g.Initialise(0))); err != nil {
		f.Close()
		return err
	}
	return f.Close()
}

// measurement is a line of `zoo bench`, of peer.py or of train_peer.py.
type measurement struct {
	Peer       string  `json:"peer"`
	Version    string  `json:"version"`
	MSPerImage float64 `json:"ms_per_image"`
	PeakRSSMB  float64 `json:"peak_rss_mb"`
}

func (c config) measure(ctx context.Context, hidden *restriction, subject, model, file string, in graph.Shape, batch int) (measurement, error) {
	env, err := hidden.environment(ctx, subject)
	if err != nil {
		return measurement{}, err
	}
	subject = strings.TrimSuffix(subject, avx2)
	seconds, threads := fmt.Sprint(c.seconds), fmt.Sprint(c.threads)
	if precision, ok := strings.CutPrefix(subject, "zoo-"); ok {
		return timed(ctx, env, c.zoo, "bench", model, "--batch", fmt.Sprint(batch), "--precision", precision, "--threads", threads, "--duration", seconds+"s", "--runs", "5")
	}
	python, name := c.python, file
	if strings.HasPrefix(subject, "torch-") {
		python, name = c.torchPython, model
	}
	return timed(ctx, env, python, "bench/peer.py", subject, name, fmt.Sprintf("%dx%v", batch, in), seconds, threads)
}

// timed runs a command that prints a measurement, with additions to its environment.
func timed(ctx context.Context, env []string, name string, args ...string) (m measurement, err error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(os.Environ(), env...)
	out, err := cmd.Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			lines := strings.Split(strings.TrimSpace(string(exit.Stderr)), "\n")
			err = fmt.Errorf("%w: %s", err, lines[len(lines)-1])
		}
		return m, fmt.Errorf("%s %s: %w", name, strings.Join(args, " "), err)
	}
	return m, json.Unmarshal(out, &m)
}
