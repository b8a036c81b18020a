package classifier

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/go-modelzoo/zoo/engine/kernel/cpu"
	"github.com/go-modelzoo/zoo/host"
	"github.com/go-modelzoo/zoo/hub/registry"
	"github.com/go-modelzoo/zoo/internal/plural"
)

// Status is the outcome of a check.
type Status string

// Outcomes.
const (
	Good Status = "ok"
	Warn Status = "warn"
	Bad  Status = "bad"
)

// Check is one thing that Diagnose looked at. Detail says what was found and, unless it is good, what to do.
type Check struct {
	Name   string `json:"name"`
	Status Status `json:"status"`
	Detail string `json:"detail"`
}

// Diagnose checks the processor, the GPU libraries, the store, the plugins, the index, the clock and the sources.
func (c *Client) Diagnose(ctx context.Context) []Check {
	ctx, end, err := c.begin(ctx)
	if err != nil {
		return []Check{{"client", Bad, err.Error()}}
	}
	defer end(&err)
	checks := []Check{checkCPU(), checkGPU()}
	checks = append(checks, c.checkHome(), c.checkStore(ctx))
	checks = append(checks, c.checkSharedStores()...)
	checks = append(checks, c.checkInstalled())
	checks = append(checks, c.checkPlugins(ctx)...)
	checks = append(checks, c.checkIndex(ctx))
	return append(checks, c.checkSources(ctx)...)
}

func checkCPU() Check {
	if err := cpu.Check(); err != nil {
		return Check{"processor", Bad, err.Error()}
	}
	info := cpu.Describe()
	k := Check{"processor", Good, fmt.Sprintf("%s, %s: kernels for %s", info.Model, plural.Count(info.Cores, "core", "cores"), info.Tier)}
	if cpu.Best() < cpu.AVX2 {
		k.Status = Warn
		k.Detail += "; without AVX2 everything is several times slower"
	}
	if info.AMX != "" {
		k.Status = Warn
		k.Detail += "; AMX cannot be used: " + info.AMX
	}
	return k
}

// checkGPU looks for the CUDA driver's library where the loader does.
func checkGPU() Check {
	for _, dir := range []string{"/usr/lib/x86_64-linux-gnu", "/usr/lib64", "/usr/lib", "/usr/local/cuda/lib64", "/usr/local/nvidia/lib64"} {
		if p := filepath.Join(dir, "libcuda.so.1"); exists(p) {
			return Check{"GPU", Good, "CUDA driver at " + p + ", for plugins that use it; the families that come with zoo run on the processor"}
		}
	}
	return Check{"GPU", Good, "no CUDA driver found; networks run on the processor"}
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// checkHome tries to write to the home folder.
func (c *Client) checkHome() Check {
	home := c.config.Hub.Home
	f, err := os.CreateTemp(home, ".doctor-*")
	if err != nil {
		return Check{"home", Bad, fmt.Sprintf("%s cannot be written: %v; set ZOO_HOME to a folder of yours", home, err)}
	}
	f.Close()
	if err := os.Remove(f.Name()); err != nil {
		return Check{"home", Bad, err.Error()}
	}
	return Check{"home", Good, home}
}

func (c *Client) checkStore(ctx context.Context) Check {
	findings, err := c.Hub.Verify(ctx, false)
	if err != nil {
		return Check{"store", Bad, err.Error()}
	}
	for _, f := range findings {
		if !f.Warning {
			verify := "zoo verify --repair"
			if f.Pinned() {
				verify = "zoo verify"
			}
			return Check{"store", Bad, fmt.Sprintf("%s, the first: %s: %v; run `%s`", plural.Count(len(findings), "problem", "problems"), f.Name, f.Err, verify)}
		}
	}
	entries, err := c.Hub.Cache()
	if err != nil {
		return Check{"store", Bad, err.Error()}
	}
	k := Check{"store", Good, fmt.Sprintf("%s, every byte as recorded", plural.Count(len(entries), "entry", "entries"))}
	if len(findings) > 0 {
		k.Status, k.Detail = Warn, fmt.Sprintf("%s: %v", findings[0].Name, findings[0].Err)
	}
	return k
}

// checkSharedStores looks for those that are configured: one that is not there counts as empty.
func (c *Client) checkSharedStores() []Check {
	var checks []Check
	for _, dir := range c.config.Hub.SharedStores {
		k := Check{"shared store " + dir, Good, "there"}
		if !exists(filepath.Join(dir, ocispec.ImageLayoutFile)) {
			k.Status, k.Detail = Warn, "there is no store: name the folder called store in the home that is shared, or see that it is mounted"
		}
		checks = append(checks, k)
	}
	return checks
}

func (c *Client) checkInstalled() Check {
	dir := c.Hub.Plugins()
	list, err := dir.List()
	if err != nil {
		return Check{"installed plugins", Bad, err.Error()}
	}
	for _, p := range list {
		if _, err := dir.Check(p.Name, p.Version); err != nil {
			return Check{"installed plugins", Bad, err.Error()}
		}
	}
	return Check{"installed plugins", Good, fmt.Sprintf("%d, all as they were installed", len(list))}
}

func (c *Client) checkPlugins(ctx context.Context) []Check {
	list, err := c.Host.Plugins(ctx)
	if err != nil {
		return []Check{{"plugins", Bad, err.Error()}}
	}
	var checks []Check
	good := map[string]bool{} // a family may be found in several places
	for _, p := range list {
		if p.Err != nil {
			checks = append(checks, Check{"plugin " + p.Family, Bad, p.Err.Error()})
			continue
		}
		good[p.Family] = true
	}
	owners := map[string]string{}                   // families, by the names of models that are theirs
	if index, err := c.Hub.Index(ctx); err == nil { // else checkIndex says it
		for _, m := range index.Models {
			owners[m.Name] = m.Family
		}
	}
	checks = append(checks, checkNames(owners, list)...)
	return append(checks, Check{"plugins", Good, plural.Count(len(good), "family answers", "families answer")})
}

// checkNames finds plugins with models that nobody gets who asks for them, since the name means another family's.
func checkNames(owners map[string]string, list []host.Plugin) (checks []Check) {
	for _, p := range list {
		if !p.Used || p.Err != nil {
			continue
		}
		for _, m := range p.Models {
			if owner := owners[m.Name]; owner == "" {
				owners[m.Name] = p.Family
			} else if owner != p.Family {
				checks = append(checks, Check{"plugin " + p.Family, Warn, fmt.Sprintf("%s has a model %s, but the name means family %s's: rename one of the two", p, m.Name, owner)})
			}
		}
	}
	return checks
}

func (c *Client) checkIndex(ctx context.Context) Check {
	index, err := c.Hub.Index(ctx)
	if err != nil {
		return Check{"index", Bad, err.Error()}
	}
	now := time.Now()
	warning, err := registry.Policy{Now: now, Grace: registry.DefaultGrace, Fixed: len(c.config.Hub.Keys) == 0}.Check(index)
	detail := fmt.Sprintf("version %d, valid until %s by this machine's clock (%s)", index.Version, index.Expires.Format(time.DateOnly), now.Format(time.DateOnly))
	switch {
	case err != nil:
		return Check{"index", Bad, err.Error()}
	case warning != "":
		return Check{"index", Warn, warning}
	}
	return Check{"index", Good, detail}
}

// probePatience is how long a source may take to answer.
const probePatience = 5 * time.Second

// checkSources asks every source for something small. One that was configured must answer; the authors' servers need not where there is no network.
func (c *Client) checkSources(ctx context.Context) []Check {
	if c.config.Hub.Offline {
		return []Check{{"sources", Good, "offline: none was asked"}}
	}
	ctx, cancel := context.WithTimeoutCause(ctx, probePatience, fmt.Errorf("no answer within %v", probePatience))
	defer cancel()
	list, err := c.Hub.Probe(ctx)
	if err != nil {
		return []Check{{"sources", Bad, err.Error()}}
	}
	checks := make([]Check, len(list))
	for i, r := range list {
		checks[i] = Check{"source " + r.Source, Good, "answers"}
		if r.Err == nil {
			continue
		}
		if cause := context.Cause(ctx); cause != nil {
			r.Err = cause
		}
		checks[i].Status, checks[i].Detail = Bad, fmt.Sprintf("%v; check the address in ZOO_REGISTRY or %s", r.Err, filepath.Join(c.config.Hub.Home, "config.json"))
		if r.Upstream {
			checks[i].Status, checks[i].Detail = Warn, fmt.Sprintf("%v; models from there cannot be pulled: check network and proxy, or name a mirror in ZOO_REGISTRY", r.Err)
		}
	}
	return checks
}
