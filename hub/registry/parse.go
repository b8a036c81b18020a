package registry

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/Masterminds/semver/v3"
	"github.com/opencontainers/go-digest"

	"github.com/go-modelzoo/zoo/internal/preprocess"
)

// MaxBytes bounds an index file.
const MaxBytes = 16 << 20

// ErrInvalid is wrapped by every error of Parse and Validate.
var ErrInvalid = errors.New("registry index is not valid")

// Names are used as path elements, OCI repository components and OCI tags; so the grammars below are the narrowest of the
// three. In particular no name holds a separator of paths, starts with a dot or is empty.
var (
	nameGrammar     = regexp.MustCompile(`^[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*$`)
	tagGrammar      = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$`)
	platformGrammar = regexp.MustCompile(`^[a-z0-9]+/[a-z0-9]+$`)
	hexGrammar      = regexp.MustCompile(`^[0-9a-f]{6,64}$`)
)

// ValidName says whether s may name a model, a family or a plugin: lower-case letters and digits joined by ".", "_", "__" or dashes,
// at most 80 bytes, so that a name and a tag fit a file name.
func ValidName(s string) bool { return len(s) <= 80 && nameGrammar.MatchString(s) }

// ValidTag says whether s may name weights or a version.
func ValidTag(s string) bool { return tagGrammar.MatchString(s) }

// SplitReference splits "MODEL" or "MODEL:TAG" and checks both parts; tag is empty in the first form.
func SplitReference(ref string) (name, tag string, err error) {
	name, tag, tagged := strings.Cut(ref, ":")
	if strings.Contains(ref, "/") {
		return "", "", fmt.Errorf("%q is not a model name: a model of a registry is oci://HOST/PATH/MODEL:TAG, a folder begins with ./ or /", ref)
	}
	if !ValidName(name) {
		return "", "", fmt.Errorf("%q is not a model name: use lower-case letters, digits, '.', '_' and '-', as in resnet50 or resnet50:IMAGENET1K_V2", ref)
	}
	if tagged && !ValidTag(tag) {
		return "", "", fmt.Errorf("%q has no valid tag after the colon: use letters, digits, '.', '_' and '-', at most 128", ref)
	}
	return name, tag, nil
}

// OCIPrefix begins the address of an OCI registry, and a reference to a model or plugin of one.
const OCIPrefix = "oci://"

// CutAddress splits a reference with an address, "oci://HOST/PATH/MODEL", into "oci://HOST/PATH" and the rest, which SplitReference reads. ok
// says whether it is one; else model is all of ref.
func CutAddress(ref string) (address, model string, ok bool) {
	slash := strings.LastIndexByte(ref, '/')
	if !strings.HasPrefix(ref, OCIPrefix) || slash <= len(OCIPrefix) {
		return "", ref, false
	}
	return ref[:slash], ref[slash+1:], true
}

// Parse reads an index and validates it. Unknown fields are allowed, so that an older program reads a newer index;
// trailing data and duplicate names are not.
func Parse(data []byte) (*Index, error) {
	if len(data) > MaxBytes {
		return nil, fmt.Errorf("%w: %d bytes are more than %d", ErrInvalid, len(data), MaxBytes)
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	x := new(Index)
	if err := dec.Decode(x); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%w: data after the end of the object", ErrInvalid)
	}
	if err := x.Validate(); err != nil {
		return nil, err
	}
	return x, nil
}

// Validate checks the invariants in the package comment.
func (x *Index) Validate() error {
	if x.Version < 1 {
		return fmt.Errorf("%w: version %d is below 1", ErrInvalid, x.Version)
	}
	if x.Expires.IsZero() {
		return fmt.Errorf("%w: expires is missing", ErrInvalid)
	}
	families := make(map[string]bool, len(x.Families))
	for i := range x.Families {
		f := &x.Families[i]
		if families[f.Name] {
			return fmt.Errorf("%w: family %q is listed twice", ErrInvalid, f.Name)
		}
		families[f.Name] = true
		if err := f.validate(); err != nil {
			return fmt.Errorf("%w: family %q: %w", ErrInvalid, f.Name, err)
		}
	}
	models := make(map[string]bool, len(x.Models))
	for i := range x.Models {
		m := &x.Models[i]
		if models[m.Name] {
			return fmt.Errorf("%w: model %q is listed twice", ErrInvalid, m.Name)
		}
		models[m.Name] = true
		if !families[m.Family] {
			return fmt.Errorf("%w: model %q is of family %q, which is not listed", ErrInvalid, m.Name, m.Family)
		}
		if err := m.validate(); err != nil {
			return fmt.Errorf("%w: model %q: %w", ErrInvalid, m.Name, err)
		}
	}
	return nil
}

func (f *Family) validate() error {
	if !ValidName(f.Name) {
		return errors.New("not a valid name")
	}
	seen := make(map[string]bool, len(f.Plugins))
	for _, p := range f.Plugins {
		if _, err := semver.StrictNewVersion(p.Version); err != nil || !ValidTag(p.Version) {
			return fmt.Errorf("plugin version %q is not a semantic version without build data", p.Version)
		}
		if seen[p.Version] {
			return fmt.Errorf("plugin version %s is listed twice", p.Version)
		}
		seen[p.Version] = true
		if p.Protocol < 1 {
			return fmt.Errorf("plugin %s: protocol %d is below 1", p.Version, p.Protocol)
		}
		for platform, b := range p.Platforms {
			if !platformGrammar.MatchString(platform) {
				return fmt.Errorf("plugin %s: platform %q is not GOOS/GOARCH", p.Version, platform)
			}
			if err := validDigest(b.Digest); err != nil {
				return fmt.Errorf("plugin %s %s: %w", p.Version, platform, err)
			}
			if b.Size <= 0 {
				return fmt.Errorf("plugin %s %s: size %d is not positive", p.Version, platform, b.Size)
			}
			if b.URL != "" {
				if err := validURL(b.URL); err != nil {
					return fmt.Errorf("plugin %s %s: %w", p.Version, platform, err)
				}
			}
		}
	}
	return nil
}

func (m *Model) validate() error {
	if !ValidName(m.Name) {
		return errors.New("not a valid name")
	}
	if m.Params < 0 || m.MACs < 0 || m.Classes < 1 {
		return fmt.Errorf("params %d, macs %d and classes %d: counts must be positive", m.Params, m.MACs, m.Classes)
	}
	if err := validInput(m.Input); err != nil {
		return err
	}
	if m.MinSize[0] < 0 || m.MinSize[1] < 0 {
		return fmt.Errorf("min_size %v is negative", m.MinSize)
	}
	defaults := 0
	tags := make(map[string]bool, len(m.Weights))
	for i := range m.Weights {
		w := &m.Weights[i]
		if !ValidTag(w.Tag) {
			return fmt.Errorf("weights tag %q is not valid", w.Tag)
		}
		if tags[w.Tag] {
			return fmt.Errorf("weights %s are listed twice", w.Tag)
		}
		tags[w.Tag] = true
		if w.Default {
			defaults++
		}
		if err := w.validate(m); err != nil {
			return fmt.Errorf("weights %s: %w", w.Tag, err)
		}
	}
	if len(m.Weights) > 0 && defaults != 1 {
		return fmt.Errorf("%d weights are marked default: mark one", defaults)
	}
	return nil
}

func (w *Weights) validate(m *Model) error {
	if w.License == "" {
		return errors.New(`license is missing: write "unknown" where it is not known`)
	}
	if w.Params < 0 || w.MACs < 0 {
		return fmt.Errorf("params %d and macs %d: counts must not be negative", w.Params, w.MACs)
	}
	if w.Input != ([3]int{}) {
		if err := validInput(w.Input); err != nil {
			return err
		}
	}
	if w.Origin != nil {
		if err := w.Origin.validate(); err != nil {
			return fmt.Errorf("origin: %w", err)
		}
	}
	if a := w.Artifact; a != nil {
		if err := errors.Join(validDigest(a.Digest), validDigest(a.Unpacked)); err != nil {
			return fmt.Errorf("artifact: %w", err)
		}
		if a.Size <= 0 {
			return fmt.Errorf("artifact: size %d is not positive", a.Size)
		}
	}
	return w.Preprocess.Validate(m.Input[0])
}

// Validate checks a preprocessing for images of the given number of channels.
func (p *Preprocess) Validate(channels int) error {
	if p.Resize < 0 || p.Crop < 0 || p.Resize > preprocess.MaxSide || p.Crop > preprocess.MaxSide {
		return fmt.Errorf("preprocess: resize %d and crop %d must lie in 0..%d", p.Resize, p.Crop, preprocess.MaxSide)
	}
	if interpolations := []string{"bilinear", "bicubic"}; (p.Resize > 0 || p.Interpolation != "") && !slices.Contains(interpolations, p.Interpolation) {
		return fmt.Errorf("preprocess: interpolation %q is unknown: use one of %s", p.Interpolation, strings.Join(interpolations, ", "))
	}
	if len(p.Mean) != channels || len(p.Std) != channels {
		return fmt.Errorf("preprocess: mean has %d and std %d values for %d channels", len(p.Mean), len(p.Std), channels)
	}
	for i := range p.Mean {
		if math.IsNaN(p.Mean[i]) || math.IsInf(p.Mean[i], 0) || math.IsInf(p.Std[i], 0) || !(p.Std[i] > 0) {
			return fmt.Errorf("preprocess: mean %v and std %v must be finite, std positive", p.Mean, p.Std)
		}
	}
	return nil
}

func (o *Origin) validate() error {
	if err := validURL(o.URL); err != nil {
		return err
	}
	switch {
	case o.SHA256 != "" && (len(o.SHA256) != 64 || !hexGrammar.MatchString(o.SHA256)):
		return fmt.Errorf("sha256 %q is not 64 lower-case hex digits", o.SHA256)
	case o.SHA256Prefix != "" && !hexGrammar.MatchString(o.SHA256Prefix):
		return fmt.Errorf("sha256_prefix %q is not 6 to 64 lower-case hex digits", o.SHA256Prefix)
	case !strings.HasPrefix(o.SHA256, o.SHA256Prefix) && o.SHA256 != "":
		return fmt.Errorf("sha256 %s does not start with sha256_prefix %s", o.SHA256, o.SHA256Prefix)
	case o.Size < 0 || o.SizeEstimate < 0:
		return fmt.Errorf("size %d and size_estimate %d must not be negative", o.Size, o.SizeEstimate)
	case o.Format != FormatPTH && o.Format != FormatSafetensors:
		return fmt.Errorf("format %q is unknown: use %s or %s", o.Format, FormatPTH, FormatSafetensors)
	}
	return nil
}

func validInput(in [3]int) error {
	for _, v := range in {
		if v < 1 || v > 1<<16 {
			return fmt.Errorf("input %v must be channels, height and width in 1..65536", in)
		}
	}
	return nil
}

func validDigest(d digest.Digest) error {
	if err := d.Validate(); err != nil {
		return fmt.Errorf("digest %q: %w", d, err)
	}
	if d.Algorithm() != digest.SHA256 {
		return fmt.Errorf("digest %q is not sha256", d)
	}
	return nil
}

func validURL(s string) error {
	u, err := url.Parse(s)
	if err != nil {
		return fmt.Errorf("address %q: %w", s, err)
	}
	if u.Host == "" || u.User != nil {
		return fmt.Errorf("address %q needs a host and no user", s)
	}
	if u.Scheme == "https" || u.Scheme == "http" && IsLoopback(u.Hostname()) {
		return nil
	}
	return fmt.Errorf("address %q is not https", s)
}

// IsLoopback says whether host, without a port, is this machine.
func IsLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}
