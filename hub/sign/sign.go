// Package sign signs and verifies what the hub trusts by key: the index (registry.json) and artifacts. Signatures are
// minisign's (Ed25519), so that the minisign program can make and check them too.
//
// The message of an index's signature is the file itself. The message of an artifact's signature is a Statement: it binds a
// name and tag to a manifest's digest, so that a signed manifest cannot be served under another name.
//
// Functions are safe for concurrent use.
package sign

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"aead.dev/minisign"
	"github.com/opencontainers/go-digest"

	"github.com/go-modelzoo/zoo/internal/files"
)

// ErrUntrusted is wrapped by every error about a signature that is absent, is not by a pinned key, or does not fit its message.
var ErrUntrusted = errors.New("signature refused")

// ArtifactType is the media type of manifests that carry a signature of their subject; MediaTypeStatement and
// MediaTypeSignature are their two layers.
const (
	ArtifactType       = "application/vnd.zoo.signature.v1"
	MediaTypeStatement = "application/vnd.zoo.statement.v1+json"
	MediaTypeSignature = "application/vnd.zoo.signature.v1.minisig"
)

// maxFile bounds a key's or signature's text.
const maxFile = 4 << 10

// Keys are the public keys that a client has pinned.
type Keys []minisign.PublicKey

// ParseKeys reads public keys, each the base64 line of a minisign key, a whole minisign.pub text, or the path of one.
func ParseKeys(texts ...string) (Keys, error) {
	keys := make(Keys, 0, len(texts))
	for _, text := range texts {
		var k minisign.PublicKey
		if k.UnmarshalText([]byte(text)) != nil {
			data, err := files.ReadAll(text, maxFile)
			if errors.Is(err, files.ErrTooLarge) {
				return nil, fmt.Errorf("public key: %w", err)
			}
			if err != nil {
				return nil, fmt.Errorf("%q is neither a minisign public key nor a file with one", text)
			}
			if err := k.UnmarshalText(data); err != nil {
				return nil, fmt.Errorf("%s holds no minisign public key: %w", text, err)
			}
		}
		keys = append(keys, k)
	}
	return keys, nil
}

// PrivateKey reads a minisign secret key file. password is used only if the key is encrypted.
func PrivateKey(path, password string) (minisign.PrivateKey, error) {
	data, err := files.ReadAll(path, maxFile)
	if err != nil {
		return minisign.PrivateKey{}, fmt.Errorf("signing key: %w", err)
	}
	if minisign.IsEncrypted(data) {
		k, err := minisign.DecryptKey(password, data)
		if err != nil {
			return k, fmt.Errorf("signing key %s: wrong password", path)
		}
		return k, nil
	}
	var k minisign.PrivateKey
	if err := k.UnmarshalText(data); err != nil {
		return k, fmt.Errorf("signing key %s: %w", path, err)
	}
	return k, nil
}

// Sign returns the text of a signature of message. comment is signed along and shown by minisign.
func Sign(key minisign.PrivateKey, message []byte, comment string) []byte {
	return minisign.SignWithComments(key, message, comment, "signature by zoo")
}

// Verify checks that signature is one of message by a pinned key, and returns that key's identifier as hex.
func (keys Keys) Verify(message, signature []byte) (keyID string, err error) {
	if len(signature) > maxFile {
		return "", fmt.Errorf("%w: %d bytes are too many for one", ErrUntrusted, len(signature))
	}
	var s minisign.Signature
	if err := s.UnmarshalText(signature); err != nil {
		return "", fmt.Errorf("%w: it is not a minisign signature: %w", ErrUntrusted, err)
	}
	for _, k := range keys {
		if k.ID() != s.KeyID {
			continue
		}
		if !minisign.Verify(k, message, signature) {
			return "", fmt.Errorf("%w: it does not fit what it signs, key %016X: one of the two was changed", ErrUntrusted, s.KeyID)
		}
		return fmt.Sprintf("%016X", s.KeyID), nil
	}
	return "", fmt.Errorf("%w: it is by key %016X, which is not pinned: if you trust its owner, run zoo registry pin KEY", ErrUntrusted, s.KeyID)
}

// Statement is what an artifact's signature signs.
type Statement struct {
	// Type is StatementType.
	Type string `json:"type"`
	// Name and Tag are what the artifact is published as.
	Name string `json:"name"`
	Tag  string `json:"tag"`
	// Digest is that of the manifest.
	Digest digest.Digest `json:"digest"`
}

// StatementType tells statements from other JSON.
const StatementType = "https://zoo.dev/statement/v1"

// NewStatement returns the encoded statement.
func NewStatement(name, tag string, d digest.Digest) ([]byte, error) {
	return json.Marshal(Statement{StatementType, name, tag, d})
}

// VerifyStatement checks an artifact's signature, and that it is for this name, tag and digest. It returns the key's identifier.
func (keys Keys) VerifyStatement(statement, signature []byte, name, tag string, d digest.Digest) (keyID string, err error) {
	id, err := keys.Verify(statement, signature)
	if err != nil {
		return "", err
	}
	var s Statement
	if err := json.Unmarshal(statement, &s); err != nil {
		return "", fmt.Errorf("%w: its statement is not JSON: %w", ErrUntrusted, err)
	}
	if want, err := NewStatement(name, tag, d); err != nil || !bytes.Equal(want, statement) {
		return "", fmt.Errorf("%w: it is for %s and not for %s", ErrUntrusted, s, Statement{StatementType, name, tag, d})
	}
	return id, nil
}

// String is NAME:TAG@DIGEST.
func (s Statement) String() string {
	return strings.Join([]string{s.Name, ":", s.Tag, "@", string(s.Digest)}, "")
}
