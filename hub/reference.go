package hub

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/go-modelzoo/zoo/hub/registry"
	"github.com/go-modelzoo/zoo/hub/source"
)

// ociEntry begins the store's names of what was pulled from a registry by its address. The address is part of such a name: whoever asks for
// oci://HOST/PATH/NAME:TAG never gets what another registry, the index or the user calls NAME:TAG, and what comes from there never takes the
// place of those.
const ociEntry = "oci/"

// reference is a parsed MODEL argument.
type reference struct {
	name, tag string
	row       *registry.Model   // nil: not in the index
	weights   *registry.Weights // nil: none of that tag in the index
	from      *source.Registry  // not nil: only this source
	digest    digest.Digest     // of the manifest, where the argument had one
	untagged  bool              // tag is only what is usual
}

// String is NAME:TAG, or oci://HOST/PATH/NAME:TAG where the argument had an address. It is what the lock calls the model.
func (r *reference) String() string {
	if r.from != nil {
		return r.from.String() + "/" + r.name + ":" + r.tag
	}
	return r.name + ":" + r.tag
}

// entry is what the store's index calls the model: NAME/TAG, or oci/HOST/PATH/NAME/TAG.
func (r *reference) entry() string {
	name := source.RefName(r.name, r.tag)
	if r.from != nil {
		return ociEntry + strings.TrimPrefix(r.from.String(), registry.OCIPrefix) + "/" + name
	}
	return name
}

// key names the model's locks and its download, of which a registry's address can be no part as it is.
func (r *reference) key() string {
	key := r.name + "-" + r.tag
	if r.from != nil {
		sum := sha256.Sum256([]byte(r.from.String()))
		key += "-" + hex.EncodeToString(sum[:4])
	}
	return key
}

// displayName turns a name of the store's index into what a user calls the model: "resnet50/V2" into "resnet50:V2".
func displayName(entry string) string {
	if rest, ok := strings.CutPrefix(entry, ociEntry); ok && strings.Count(rest, "/") > 1 {
		entry = registry.OCIPrefix + rest
	}
	if name, tag, ok := cutLast(entry, "/"); ok {
		return name + ":" + tag
	}
	return entry
}

// isModel says whether an entry of the store's index is a model, and no plugin or signature.
func isModel(entry string) bool {
	slashes := strings.Count(entry, "/")
	return slashes == 1 || slashes > 2 && strings.HasPrefix(entry, ociEntry)
}

// parse reads "NAME", "NAME:TAG", "oci://HOST/PATH/NAME[:TAG]" or "oci://HOST/PATH/NAME:TAG@DIGEST" and fills in the default tag.
func (h *Hub) parse(x *registry.Index, text string) (*reference, error) {
	r := &reference{}
	short := text
	if strings.HasPrefix(text, registry.OCIPrefix) {
		ref, at, ok := strings.Cut(text, "@")
		if r.digest = digest.Digest(at); ok && r.digest.Validate() != nil {
			return nil, fmt.Errorf("%q does not end in a digest", text)
		}
		var address string
		if address, short, ok = registry.CutAddress(ref); !ok {
			return nil, fmt.Errorf("%q names no model: use oci://HOST/PATH/NAME:TAG", text)
		}
		var err error
		if r.from, err = source.OCI(h.client, address); err != nil {
			return nil, err
		}
	} else if strings.HasPrefix(text, "https://") || strings.HasPrefix(text, "http://") {
		return nil, fmt.Errorf("%q is a server and not a model: name it in ZOO_REGISTRY, and the model as NAME or NAME:TAG", text)
	}
	var err error
	if r.name, r.tag, err = registry.SplitReference(short); err != nil {
		return nil, err
	}
	for _, index := range []*registry.Index{x, h.shipped} {
		if r.row == nil {
			r.row = index.ByName(r.name)
		}
	}
	if r.tag == "" && r.digest != "" { // card and signature name one
		return nil, fmt.Errorf("%q has a digest and no tag: name the tag before it, as in %s/%s:v1@%s", text, r.from, r.name, r.digest)
	}
	if r.tag == "" {
		r.tag, r.untagged = h.defaultTag(r), true
	}
	if r.row != nil {
		r.weights = r.row.ByTag(r.tag)
	}
	return r, nil
}

// defaultTag is the index's default, else that of the only weights in the store, else local, else latest.
func (h *Hub) defaultTag(r *reference) string {
	if r.from != nil {
		return "latest"
	}
	if r.row != nil {
		if w := r.row.ByTag(""); w != nil {
			return w.Tag
		}
	}
	stored := h.tags(r.name)
	if len(stored) == 1 {
		return strings.TrimPrefix(stored[0], r.name+":")
	}
	if slices.Contains(stored, r.name+":"+TagLocal) {
		return TagLocal
	}
	return "latest"
}

// tags lists what the store has under a name of its own, as NAME:TAG.
func (h *Hub) tags(model string) (refs []string) {
	for _, ref := range h.namesakes(model) {
		if !strings.HasPrefix(ref, registry.OCIPrefix) {
			refs = append(refs, ref)
		}
	}
	return refs
}

// namesakes lists what the store has of a name, from registries that were named too.
func (h *Hub) namesakes(model string) (refs []string) {
	entries, err := h.store.Entries()
	if err != nil {
		return nil // whoever reads the store next says so
	}
	for _, e := range entries {
		ref := displayName(e.Name)
		_, short, _ := registry.CutAddress(ref)
		if name, _, err := registry.SplitReference(short); err == nil && name == model {
			refs = append(refs, ref)
		}
	}
	return refs
}
