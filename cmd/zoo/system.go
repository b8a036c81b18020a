package main

import (
	"fmt"
	"io"
	"runtime"
	"strings"

	"github.com/go-modelzoo/zoo/engine"
	"github.com/go-modelzoo/zoo/engine/kernel/cpu"
	"github.com/go-modelzoo/zoo/engine/kernel/gemm"
	"github.com/go-modelzoo/zoo/engine/work"
	"github.com/go-modelzoo/zoo/hub"
	"github.com/go-modelzoo/zoo/internal/plural"
	"github.com/go-modelzoo/zoo/internal/ui"
)

// systemInfo is what `zoo info --system -o json` prints.
type systemInfo struct {
	Version   string   `json:"version"`
	Go        string   `json:"go"`
	Platform  string   `json:"platform"`
	CPU       cpu.Info `json:"cpu"`
	Tier      string   `json:"tier"`
	Precision string   `json:"default_precision"`
	Threads   int      `json:"threads"`
	Home      string   `json:"home"`
}

func (a *app) system() error {
	if err := cpu.Check(); err != nil {
		return err
	}
	home, err := hub.DefaultHome()
	if err != nil {
		return err
	}
	tier := cpu.Best()
	s := systemInfo{
		Version: version(), Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH,
		CPU: cpu.Describe(), Tier: tier.String(), Precision: gemm.Resolve(engine.Default, tier).String(),
		Threads: work.DefaultThreads(), Home: home,
	}
	return a.Print(s, func(w io.Writer) error {
		return ui.Table(w, nil, [][]string{
			{"zoo", s.Version + " (" + s.Go + ", " + s.Platform + ")"},
			{"processor", fmt.Sprintf("%s, %s, %s", s.CPU.Model, plural.Count(s.CPU.Cores, "core", "cores"), strings.Join(s.CPU.Features, " "))},
			{"kernels", s.Tier + " (ZOO_CPU=generic|avx2|avx512|amx forces a lower tier)"},
			{"precision", s.Precision + " unless --precision says otherwise"},
			{"threads", fmt.Sprint(s.Threads)},
			{"home", s.Home},
		})
	})
}
