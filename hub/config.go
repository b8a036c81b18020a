package hub

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"
	"unicode"

	"github.com/go-modelzoo/zoo/internal/files"
	"github.com/go-modelzoo/zoo/internal/strictjson"
)

// Names of sources that are not addresses.
const (
	// SourceUpstream is the authors' servers that the index lists.
	SourceUpstream = "upstream"
	// SourceEmbedded is the hub inside the program.
	SourceEmbedded = "embedded"
)

// Config says where a Hub keeps things, where it gets them from and whom it trusts. The fields with JSON names may stand
// in $ZOO_HOME/config.json.
type Config struct {
	// Home is the directory of the store, the installed plugins and the state. Empty: DefaultHome.
	Home string `json:"-"`
	// SharedStores are OCI layouts, read before any source, never written.
	SharedStores []string `json:"shared_stores,omitempty"`
	// Sources are tried in order: "oci://HOST/PATH", "https://HOST/PATH" (a static OCI layout), a directory with an OCI
	// layout, SourceEmbedded, SourceUpstream. Empty: embedded, then upstream.
	Sources []string `json:"sources,omitempty"`
	// Keys are the pinned minisign public keys, or files with one.
	Keys []string `json:"keys,omitempty"`
	// RequireLicenses refuses models under any other licence. Empty: all are allowed.
	RequireLicenses []string `json:"require_licenses,omitempty"`
	// CAFile adds certificate authorities (PEM).
	CAFile string `json:"ca_file,omitempty"`

	// Offline makes every source but directories and the embedded one fail without dialling.
	Offline bool `json:"-"`
	// PlainHTTP allows plain HTTP to other machines.
	PlainHTTP bool `json:"-"`
	// TrustUnpublished allows models of which nobody published any part of a digest: trusted on first use, then pinned.
	TrustUnpublished bool `json:"-"`
	// RateLimit bounds downloads, in bytes per second. Zero: no bound.
	RateLimit int64 `json:"-"`
	// Parallel is the number of requests at a time. Zero: a default.
	Parallel int `json:"-"`
	// LockFile is the project's zoo.lock. Empty: zoo.lock in Home.
	LockFile string `json:"-"`

	// Embedded is an OCI layout in the program. Nil: none.
	Embedded fs.FS `json:"-"`
	// Index is the registry.json in the program. It is trusted as the program is.
	Index []byte `json:"-"`
	// Progress is told about long work. Calls come one at a time, and wait for each other: it must not call the hub.
	Progress func(Progress) `json:"-"`
	// Warn is told what a person should know but that stops nothing. Calls come one at a time, and wait for each other: it must not call the hub.
	Warn func(string) `json:"-"`
	// DialContext replaces the dialler.
	DialContext func(ctx context.Context, network, addr string) (net.Conn, error) `json:"-"`
	// Now replaces the clock.
	Now func() time.Time `json:"-"`
}

// Stage is a kind of long work.
type Stage string

// The stages that Progress reports.
const (
	StageWait     Stage = "wait" // another process downloads the same; Done and Total are its
	StageDownload Stage = "download"
	StageConvert  Stage = "convert"
	StageUnpack   Stage = "unpack"
	StagePack     Stage = "pack"
	StagePush     Stage = "push"
	StageVerify   Stage = "verify"
)

// Progress is how far some work has come.
type Progress struct {
	// Name is the model as NAME:TAG, or a plugin.
	Name  string
	Stage Stage
	// Done and Total are bytes; Total is -1 where it is not known. Done equals Total in the last report of a stage.
	Done, Total int64
	// Source is where bytes come from, or go to.
	Source string
}

// DefaultHome is $ZOO_HOME, else the folder "zoo" in the user's data directory ($XDG_DATA_HOME, ~/.local/share, or
// %LocalAppData%).
func DefaultHome() (string, error) {
	if dir := os.Getenv("ZOO_HOME"); dir != "" {
		return dir, nil
	}
	if dir := os.Getenv("XDG_DATA_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "zoo"), nil
	}
	if dir := os.Getenv("LocalAppData"); runtime.GOOS == "windows" && dir != "" {
		return filepath.Join(dir, "zoo"), nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", fmt.Errorf("there is no home directory: set ZOO_HOME: %w", err)
	}
	return filepath.Join(home, ".local", "share", "zoo"), nil
}

const configName = "config.json"

// LoadConfig reads config.json in home, which need not exist, and then the environment: ZOO_REGISTRY (a list separated by spaces, where an
// element in single or double quotes may hold some) replaces the sources, so that nothing else is asked, and ZOO_CA_FILE the certificates.
func LoadConfig(home string) (Config, error) {
	c, err := readConfig(home)
	if err != nil {
		return c, err
	}
	list, err := splitQuoted(os.Getenv("ZOO_REGISTRY"))
	if err != nil {
		return c, fmt.Errorf("ZOO_REGISTRY: %w", err)
	}
	if len(list) > 0 {
		c.Sources = list
	}
	if file := os.Getenv("ZOO_CA_FILE"); file != "" {
		c.CAFile = file
	}
	return c, nil
}

// splitQuoted splits at spaces, as go does with GOFLAGS: an element that begins with a quote, single or double, goes to the next one of its kind.
// Nothing is escaped: a backslash belongs to a path.
func splitQuoted(s string) (list []string, err error) {
	for s = strings.TrimSpace(s); s != ""; s = strings.TrimSpace(s) {
		if quote := s[0]; quote == '"' || quote == '\'' {
			element, rest, closed := strings.Cut(s[1:], string(quote))
			if !closed || element == "" || rest != "" && !unicode.IsSpace(rune(rest[0])) {
				// The element is not shown: an address may hold a password.
				return nil, errors.New("an element in quotes needs the same quote at its end, and a space before the next element")
			}
			list, s = append(list, element), rest
			continue
		}
		end := strings.IndexFunc(s, unicode.IsSpace)
		if end < 0 {
			end = len(s)
		}
		list, s = append(list, s[:end]), s[end:]
	}
	return list, nil
}

// maxConfig bounds config.json, in bytes.
const maxConfig = 1 << 20

// readConfig reads config.json in home alone. A field that it does not know is an error: a misspelt one may be what was to protect.
func readConfig(home string) (Config, error) {
	c := Config{Home: home}
	path := filepath.Join(home, configName)
	data, err := files.ReadAll(path, maxConfig)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		err = fmt.Errorf("configuration: %w", err)
		if info, failed := os.Stat(home); failed != nil || !info.IsDir() || errors.Is(err, fs.ErrPermission) {
			err = fmt.Errorf("%w: set ZOO_HOME to a folder of yours", err)
		}
		return c, err
	}
	if err == nil {
		// RFC 8259 allows to ignore the byte order mark that editors on Windows begin a file with.
		if err := strictjson.Unmarshal(bytes.TrimPrefix(data, []byte("\ufeff")), &c); err != nil {
			return c, fmt.Errorf("configuration %s: %w", path, err)
		}
	}
	return c, nil
}

// SaveConfig writes the part of c that config.json keeps.
func SaveConfig(c Config) error {
	text, err := json.MarshalIndent(c, "", "  ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(c.Home, 0o755); err != nil {
		return err
	}
	return files.Replace(filepath.Join(c.Home, configName), append(text, '\n'), 0o644)
}
