package classifier

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/go-modelzoo/zoo/finetune"
)

// FeaturesPrefix begins the references of cached features, as `zoo cache ls` prints them.
const FeaturesPrefix = "features/"

// CachedFeatures are the results of a frozen network for the images of a dataset: what a training with --cache-features keeps.
type CachedFeatures struct {
	Reference string // FeaturesPrefix and the key
	Bytes     int64
	Used      time.Time
	Partial   bool // the training that computes them was interrupted, or is under way
}

func (c *Client) featuresDir() string { return filepath.Join(c.config.Hub.Home, "cache", "features") }

// CachedFeatures lists what trainings have cached, by reference.
func (c *Client) CachedFeatures() (_ []CachedFeatures, err error) {
	_, end, err := c.begin(context.Background())
	if err != nil {
		return nil, err
	}
	defer end(&err)
	entries, err := os.ReadDir(c.featuresDir())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var list []CachedFeatures
	for _, e := range entries {
		if !e.IsDir() {
			continue
		}
		f := CachedFeatures{Reference: FeaturesPrefix + e.Name(), Partial: true}
		err := filepath.WalkDir(filepath.Join(c.featuresDir(), e.Name()), func(_ string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			info, err := d.Info()
			if err != nil {
				return err
			}
			if d.Name() == finetune.FileFeatures {
				f.Partial = false
			}
			if info.ModTime().After(f.Used) {
				f.Used = info.ModTime()
			}
			if !d.IsDir() {
				f.Bytes += info.Size()
			}
			return nil
		})
		if errors.Is(err, fs.ErrNotExist) {
			continue // it was removed meanwhile
		}
		if err != nil {
			return nil, err
		}
		list = append(list, f)
	}
	return list, nil
}

// RemoveFeatures removes cached features by reference and returns how many bytes that frees. A training that reads them goes on where the system
// keeps files that are open; it is an error where it does not.
func (c *Client) RemoveFeatures(references ...string) (freed int64, err error) {
	_, end, err := c.begin(context.Background())
	if err != nil {
		return 0, err
	}
	defer end(&err)
	list, err := c.CachedFeatures()
	if err != nil {
		return 0, err
	}
	for _, r := range references {
		i := slices.IndexFunc(list, func(f CachedFeatures) bool { return f.Reference == r })
		if i < 0 {
			return freed, fmt.Errorf("%s is not cached: run zoo cache ls", r)
		}
		if err := os.RemoveAll(filepath.Join(c.featuresDir(), strings.TrimPrefix(r, FeaturesPrefix))); err != nil {
			return freed, err
		}
		freed += list[i].Bytes
	}
	return freed, nil
}

// PruneFeatures removes the cached features that were not used for so long; 0 removes none, less is an error. With dry it only says which.
func (c *Client) PruneFeatures(olderThan time.Duration, dry bool) (references []string, freed int64, err error) {
	_, end, err := c.begin(context.Background())
	if err != nil {
		return nil, 0, err
	}
	defer end(&err)
	if olderThan < 0 {
		return nil, 0, fmt.Errorf("an age of %v is below zero", olderThan)
	}
	list, err := c.CachedFeatures()
	if err != nil || olderThan == 0 {
		return nil, 0, err
	}
	for _, f := range list {
		if time.Since(f.Used) >= olderThan {
			references = append(references, f.Reference)
			freed += f.Bytes
		}
	}
	if dry || len(references) == 0 {
		return references, freed, nil
	}
	freed, err = c.RemoveFeatures(references...)
	return references, freed, err
}
