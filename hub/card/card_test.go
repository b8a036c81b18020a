package card_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/go-modelzoo/zoo"
	"github.com/go-modelzoo/zoo/hub/card"
	"github.com/go-modelzoo/zoo/hub/registry"
)

func example(t testing.TB) *card.Card {
	t.Helper()
	x, err := registry.Parse(zoo.RegistryJSON())
	if err != nil {
		t.Fatal(err)
	}
	m := x.ByName("resnet50")
	c := card.FromRow(m, m.ByTag(""))
	c.Weights = card.Weights{Digest: digest.FromString("w"), Size: 100}
	c.Origin = &card.Origin{URL: m.ByTag("").Origin.URL, Digest: digest.FromString("o"), Size: 7, Format: registry.FormatPTH}
	return c
}

func TestEveryRegistryRowMakesACard(t *testing.T) {
	x, err := registry.Parse(zoo.RegistryJSON())
	if err != nil {
		t.Fatal(err)
	}
	for i := range x.Models {
		for k := range x.Models[i].Weights {
			c := card.FromRow(&x.Models[i], &x.Models[i].Weights[k])
			c.Weights = card.Weights{Digest: digest.FromString("w"), Size: 100}
			text, err := c.Encode()
			if err != nil {
				t.Error(err)
				continue
			}
			if _, err := card.Parse(text); err != nil {
				t.Error(err)
			}
		}
	}
}

func TestTamperedCardFieldsRefused(t *testing.T) {
	text, err := example(t).Encode()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range [][2]string{
		{`"name":"resnet50"`, `"name":"../resnet50"`}, {`"family":"resnet"`, `"family":""`}, {`"classes":1000`, `"classes":0`},
		{`"classes":1000`, `"classes":1000,"labels":["a"]`}, {`"size":100`, `"size":-1`}, {`[3,224,224]`, `[3,0,224]`},
		{`"license":"unknown"`, `"license":""`}, {string(digest.FromString("w")), "sha256:ff"}, {`"mean":[0.485,`, `"mean":[`}, {`"crop":224`, `"crop":32769`},
	} {
		changed := strings.Replace(string(text), c[0], c[1], 1)
		if changed == string(text) {
			t.Errorf("%s is not in the card", c[0])
		}
		if _, err := card.Parse([]byte(changed)); !errors.Is(err, card.ErrInvalid) {
			t.Errorf("%s: %v", c[1], err)
		}
	}
}

func FuzzParse(f *testing.F) {
	text, err := example(f).Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Add([]byte(`{}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := card.Parse(data)
		if err != nil {
			if !errors.Is(err, card.ErrInvalid) {
				t.Fatal(err)
			}
			return
		}
		again, err := json.Marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := card.Parse(again); err != nil {
			t.Fatalf("%s: %v", again, err)
		}
	})
}
