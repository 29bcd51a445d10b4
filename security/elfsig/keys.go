package elfsig

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
)

// maxKeyFile bounds a key file in bytes; an Ed25519 key takes about 120.
const maxKeyFile = 16 << 10

// GenerateKey makes a key pair.
func GenerateKey() (ed25519.PrivateKey, error) {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("generate key: %w", err)
	}
	return key, nil
}

// EncodePrivateKey returns the key as PEM, PKCS #8 (RFC 8410), as
// "openssl genpkey -algorithm ed25519" writes it.
func EncodePrivateKey(key ed25519.PrivateKey) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("encode private key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

// EncodePublicKey returns the key as PEM, SubjectPublicKeyInfo, as
// "openssl pkey -pubout" writes it.
func EncodePublicKey(key ed25519.PublicKey) ([]byte, error) {
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return nil, fmt.Errorf("encode public key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), nil
}

// ErrPassphrase is returned for an encrypted key without its passphrase.
var ErrPassphrase = errors.New("wrong passphrase, or none")

// DecodePrivateKey reads what EncodePrivateKey, EncryptPrivateKey or openssl
// wrote; passphrase counts for encrypted keys only.
func DecodePrivateKey(data []byte, passphrase string) (ed25519.PrivateKey, error) {
	typ, der, err := pemBlock(data, "PRIVATE KEY", encryptedType)
	if err == nil && typ == encryptedType {
		der, err = decryptPBES2(der, passphrase)
	}
	if err != nil {
		return nil, fmt.Errorf("decode private key: %w", err)
	}
	k, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, fmt.Errorf("decode private key: %w", err)
	}
	key, ok := k.(ed25519.PrivateKey)
	if !ok {
		return nil, errors.New("decode private key: not an Ed25519 key")
	}
	return key, nil
}

// DecodePublicKey reads what EncodePublicKey or openssl wrote.
func DecodePublicKey(data []byte) (ed25519.PublicKey, error) {
	_, der, err := pemBlock(data, "PUBLIC KEY")
	if err != nil {
		return nil, fmt.Errorf("decode public key: %w", err)
	}
	k, err := x509.ParsePKIXPublicKey(der)
	if err != nil {
		return nil, fmt.Errorf("decode public key: %w", err)
	}
	key, ok := k.(ed25519.PublicKey)
	if !ok {
		return nil, errors.New("decode public key: not an Ed25519 key")
	}
	return key, nil
}

// pemBlock returns the contents of the file's only PEM block, of one of the types.
func pemBlock(data []byte, types ...string) (string, []byte, error) {
	if len(data) > maxKeyFile {
		return "", nil, fmt.Errorf("longer than %d bytes", maxKeyFile)
	}
	block, rest := pem.Decode(data)
	if block == nil {
		return "", nil, errors.New("no PEM block")
	}
	if !slices.Contains(types, block.Type) {
		return "", nil, fmt.Errorf("PEM block %q, want %q", block.Type, types[0])
	}
	if more, _ := pem.Decode(rest); more != nil {
		return "", nil, errors.New("more than one PEM block")
	}
	return block.Type, block.Bytes, nil
}

// developmentMark in a key file, outside the PEM block, says that the key is
// for development; a trust store refuses such keys unless its policy allows
// them. openssl reads over it.
const developmentMark = "Godwit development key: not for production\n"

// MarkDevelopment puts the mark into a key file's contents.
func MarkDevelopment(data []byte) []byte { return append([]byte(developmentMark), data...) }

// IsDevelopment tells whether a key file has the mark.
func IsDevelopment(data []byte) bool { return bytes.Contains(data, []byte(developmentMark)) }

// KeyIDOf returns the id of a public key.
func KeyIDOf(key ed25519.PublicKey) (KeyID, error) {
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return KeyID{}, fmt.Errorf("key id: %w", err)
	}
	sum := sha256.Sum256(der)
	return KeyID(sum[:8]), nil
}
