package elfsig

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ed25519"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
)

// Encrypted private keys are PKCS #8 EncryptedPrivateKeyInfo with PBES2 (RFC
// 8018): PBKDF2 with HMAC-SHA-256 and AES-256-CBC, as
// "openssl pkcs8 -topk8 -v2 aes-256-cbc" writes them.

const encryptedType = "ENCRYPTED PRIVATE KEY"

// Rounds of PBKDF2: what new keys get (about 0.3 s), and what is taken.
const (
	pbkdf2Rounds    = 600_000
	maxPBKDF2Rounds = 10_000_000
)

var (
	oidPBES2      = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 5, 13}
	oidPBKDF2     = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 5, 12}
	oidHMACSHA256 = asn1.ObjectIdentifier{1, 2, 840, 113549, 2, 9}
	oidAES256CBC  = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 1, 42}
)

type encryptedInfo struct {
	Algorithm struct {
		OID    asn1.ObjectIdentifier
		Params pbes2Params
	}
	Data []byte
}

type pbes2Params struct {
	KDF struct {
		OID    asn1.ObjectIdentifier
		Params pbkdf2Params
	}
	Cipher struct {
		OID asn1.ObjectIdentifier
		IV  []byte
	}
}

type pbkdf2Params struct {
	Salt      []byte
	Rounds    int
	KeyLength int `asn1:"optional"`
	PRF       pkix.AlgorithmIdentifier
}

// IsEncrypted tells whether a private key file needs a passphrase.
func IsEncrypted(data []byte) bool {
	block, _ := pem.Decode(data)
	return block != nil && block.Type == encryptedType
}

// EncryptPrivateKey returns the key as PEM, protected by the passphrase.
func EncryptPrivateKey(key ed25519.PrivateKey, passphrase string) ([]byte, error) {
	if passphrase == "" {
		return nil, errors.New("encrypt private key: empty passphrase")
	}
	plain, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("encrypt private key: %w", err)
	}
	salt, iv := make([]byte, 16), make([]byte, aes.BlockSize)
	_, _ = rand.Read(salt) // it never fails (crypto/rand)
	_, _ = rand.Read(iv)
	block, err := deriveCipher(passphrase, salt, pbkdf2Rounds)
	if err != nil {
		return nil, fmt.Errorf("encrypt private key: %w", err)
	}
	n := aes.BlockSize - len(plain)%aes.BlockSize
	plain = append(plain, bytes.Repeat([]byte{byte(n)}, n)...)
	cipher.NewCBCEncrypter(block, iv).CryptBlocks(plain, plain)

	var info encryptedInfo
	info.Data = plain
	info.Algorithm.OID = oidPBES2
	p := &info.Algorithm.Params
	p.KDF.OID, p.Cipher.OID, p.Cipher.IV = oidPBKDF2, oidAES256CBC, iv
	p.KDF.Params = pbkdf2Params{Salt: salt, Rounds: pbkdf2Rounds, PRF: pkix.AlgorithmIdentifier{Algorithm: oidHMACSHA256, Parameters: asn1.NullRawValue}}
	der, err := asn1.Marshal(info)
	if err != nil {
		return nil, fmt.Errorf("encrypt private key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: encryptedType, Bytes: der}), nil
}

func decryptPBES2(der []byte, passphrase string) ([]byte, error) {
	var info encryptedInfo
	if rest, err := asn1.Unmarshal(der, &info); err != nil || len(rest) > 0 {
		return nil, errors.New("encrypted key: want PBES2 with PBKDF2, HMAC-SHA-256 and AES-256-CBC")
	}
	p := info.Algorithm.Params
	k := p.KDF.Params
	switch {
	case !info.Algorithm.OID.Equal(oidPBES2) || !p.KDF.OID.Equal(oidPBKDF2) || !k.PRF.Algorithm.Equal(oidHMACSHA256) || !p.Cipher.OID.Equal(oidAES256CBC):
		return nil, errors.New("encrypted key: want PBES2 with PBKDF2, HMAC-SHA-256 and AES-256-CBC")
	case k.Rounds < 1 || k.Rounds > maxPBKDF2Rounds || len(p.Cipher.IV) != aes.BlockSize || k.KeyLength != 0 && k.KeyLength != 32:
		return nil, errors.New("encrypted key: parameters out of range")
	case len(info.Data) == 0 || len(info.Data)%aes.BlockSize != 0:
		return nil, errors.New("encrypted key: length is no multiple of a block")
	case passphrase == "":
		return nil, ErrPassphrase
	}
	block, err := deriveCipher(passphrase, k.Salt, k.Rounds)
	if err != nil {
		return nil, err
	}
	plain := make([]byte, len(info.Data))
	cipher.NewCBCDecrypter(block, p.Cipher.IV).CryptBlocks(plain, info.Data)
	n := int(plain[len(plain)-1])
	if n == 0 || n > aes.BlockSize || !bytes.Equal(plain[len(plain)-n:], bytes.Repeat([]byte{byte(n)}, n)) {
		return nil, ErrPassphrase
	}
	plain = plain[:len(plain)-n]
	if _, err := x509.ParsePKCS8PrivateKey(plain); err != nil {
		return nil, ErrPassphrase // the padding was right by chance
	}
	return plain, nil
}

func deriveCipher(passphrase string, salt []byte, rounds int) (cipher.Block, error) {
	key, err := pbkdf2.Key(sha256.New, passphrase, salt, rounds, 32)
	if err != nil {
		return nil, err
	}
	return aes.NewCipher(key)
}
