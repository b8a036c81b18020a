package sign_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"aead.dev/minisign"
	"github.com/opencontainers/go-digest"

	"github.com/go-modelzoo/zoo/hub/sign"
)

func pair(t *testing.T) (minisign.PublicKey, minisign.PrivateKey) {
	t.Helper()
	public, private, err := minisign.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	return public, private
}

func TestWrongKeyRefused(t *testing.T) {
	public, private := pair(t)
	other, _ := pair(t)
	message := []byte("index")
	signature := sign.Sign(private, message, "version 1")
	if id, err := (sign.Keys{other, public}).Verify(message, signature); err != nil || id == "" {
		t.Errorf("the right key: %q, %v", id, err)
	}
	for name, keys := range map[string]sign.Keys{"other key": {other}, "no key": nil} {
		if _, err := keys.Verify(message, signature); !errors.Is(err, sign.ErrUntrusted) || !strings.Contains(err.Error(), "not pinned") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestTamperedMessageRefused(t *testing.T) {
	public, private := pair(t)
	signature := sign.Sign(private, []byte("index"), "version 1")
	if _, err := (sign.Keys{public}).Verify([]byte("Index"), signature); !errors.Is(err, sign.ErrUntrusted) {
		t.Error(err)
	}
	comment := strings.Replace(string(signature), "version 1", "version 9", 1)
	if _, err := (sign.Keys{public}).Verify([]byte("index"), []byte(comment)); !errors.Is(err, sign.ErrUntrusted) {
		t.Errorf("changed trusted comment: %v", err)
	}
	for _, garbage := range []string{"", "x", strings.Repeat("x", 5000)} {
		if _, err := (sign.Keys{public}).Verify([]byte("index"), []byte(garbage)); !errors.Is(err, sign.ErrUntrusted) {
			t.Errorf("%.10q: %v", garbage, err)
		}
	}
}

func TestMixAndMatchOfStatementsRefused(t *testing.T) {
	public, private := pair(t)
	d, other := digest.FromString("a"), digest.FromString("b")
	statement, err := sign.NewStatement("resnet50", "V2", d)
	if err != nil {
		t.Fatal(err)
	}
	signature := sign.Sign(private, statement, "")
	keys := sign.Keys{public}
	if _, err := keys.VerifyStatement(statement, signature, "resnet50", "V2", d); err != nil {
		t.Error(err)
	}
	for _, c := range []sign.Statement{{Name: "resnet18", Tag: "V2", Digest: d}, {Name: "resnet50", Tag: "V1", Digest: d}, {Name: "resnet50", Tag: "V2", Digest: other}} {
		if _, err := keys.VerifyStatement(statement, signature, c.Name, c.Tag, c.Digest); !errors.Is(err, sign.ErrUntrusted) {
			t.Errorf("%s: %v", c, err)
		}
	}
}

func TestKeysFromTextAndFile(t *testing.T) {
	public, private := pair(t)
	text, err := public.MarshalText()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	pub, sec := filepath.Join(dir, "zoo.pub"), filepath.Join(dir, "zoo.key")
	plain, err := private.MarshalText()
	if err != nil {
		t.Fatal(err)
	}
	for path, data := range map[string][]byte{pub: text, sec: plain} {
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	keys, err := sign.ParseKeys(public.String(), string(text), pub)
	if err != nil || len(keys) != 3 || !keys[2].Equal(public) {
		t.Fatal(keys, err)
	}
	if k, err := sign.PrivateKey(sec, ""); err != nil || !k.Equal(private) {
		t.Error(err)
	}
	for _, text := range []string{"nonsense", sec} {
		if keys, err := sign.ParseKeys(text); err == nil {
			t.Errorf("%s has the keys %v", text, keys)
		}
	}
	for _, path := range []string{filepath.Join(dir, "nothing"), pub} {
		if _, err := sign.PrivateKey(path, ""); err == nil {
			t.Errorf("%s is a signing key", path)
		}
	}
}

// TestKeyBehindAPassword takes a while: the key is derived by scrypt with a gigabyte.
func TestKeyBehindAPassword(t *testing.T) {
	if testing.Short() {
		t.Skip("deriving keys takes seconds")
	}
	public, private := pair(t)
	locked, err := minisign.EncryptKey("password", private)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "zoo.key")
	if err := os.WriteFile(path, locked, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := sign.PrivateKey(path, "Password"); err == nil || !strings.Contains(err.Error(), path+": wrong password") {
		t.Error(err)
	}
	key, err := sign.PrivateKey(path, "password")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := (sign.Keys{public}).Verify([]byte("index"), sign.Sign(key, []byte("index"), "")); err != nil {
		t.Error(err)
	}
}
