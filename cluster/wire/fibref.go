package wire

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"

	"godwit/fib"
)

// A FIBRef body stands in the session for a batch whose changes come by multicast:
//
//	header  as of FIBBatch
//	serial  of the multicast (8)
//	digest  SHA-256 of the changes (32)
//
// The multicast, a message to {TypeFIB, first card, last card}, is a version (1 byte: 1), three
// zeros, the serial (8) and the changes, as of FIBBatch. Nothing vouches for it but the digest.
const (
	fibRefLen   = fibHeaderLen + 8 + sha256.Size
	castVersion = 1
	// CastHeaderLen is what a multicast has before the changes, in bytes.
	CastHeaderLen = 12
)

// FIBDigest is the digest of the changes of a batch.
type FIBDigest = [sha256.Size]byte

// FIBRefBody names the changes of a batch.
type FIBRefBody struct {
	Epoch  uint32
	Seq    uint64
	Sweep  bool
	Serial uint64
	Digest FIBDigest
}

// AppendFIBRef appends the body of a FIBRef.
func AppendFIBRef(dst []byte, r *FIBRefBody) []byte {
	dst = AppendFIBHeader(dst, r.Epoch, r.Seq, r.Sweep)
	dst = binary.BigEndian.AppendUint64(dst, r.Serial)
	return append(dst, r.Digest[:]...)
}

// DecodeFIBRef reads the body of a FIBRef.
func DecodeFIBRef(body []byte) (r FIBRefBody, err error) {
	b, rest, err := SplitFIBBatch(body)
	switch {
	case err != nil:
		return r, fmt.Errorf("decode fib-ref: %w", err)
	case len(body) != fibRefLen:
		return r, fmt.Errorf("decode fib-ref: %d bytes, want %d", len(body), fibRefLen)
	}
	r = FIBRefBody{Epoch: b.Epoch, Seq: b.Seq, Sweep: b.Sweep, Serial: binary.BigEndian.Uint64(rest)}
	copy(r.Digest[:], rest[8:])
	return r, nil
}

// AppendFIBCast begins a multicast; the changes are appended to it.
func AppendFIBCast(dst []byte, serial uint64) []byte {
	return binary.BigEndian.AppendUint64(append(dst, castVersion, 0, 0, 0), serial)
}

// DecodeFIBCast takes a multicast apart; changes are part of b.
func DecodeFIBCast(b []byte) (serial uint64, changes []byte, err error) {
	switch {
	case len(b) <= CastHeaderLen:
		return 0, nil, fmt.Errorf("decode multicast of changes: %w", errShort)
	case b[0] != castVersion || b[1]|b[2]|b[3] != 0:
		return 0, nil, fmt.Errorf("decode multicast of changes: begins with % x", b[:4])
	}
	return binary.BigEndian.Uint64(b[4:]), b[CastHeaderLen:], nil
}

// FIBSourceBody tells a card the socket that changes will be multicast from.
type FIBSourceBody struct {
	Ref  uint32 `json:"ref"`
	Node uint32 `json:"node"`
}

// FIBSourceResult tells whether the card receives multicasts.
type FIBSourceResult struct {
	Receives bool `json:"receives"`
}

// FIBFetchBody asks for the batch again, whole: its multicast has not come, or
// something else came for it.
type FIBFetchBody struct {
	Epoch uint32 `json:"epoch"`
	Seq   uint64 `json:"seq"`
}

// FIBCastStats counts what came to a card by multicast.
type FIBCastStats struct {
	Received  uint64 `json:"received"`  // multicasts from a routing engine that has a session
	Bytes     uint64 `json:"bytes"`     // of them
	Applied   uint64 `json:"applied"`   // batches that came this way
	Fetched   uint64 `json:"fetched"`   // asked for again
	Forged    uint64 `json:"forged"`    // other changes than the session names
	Dropped   uint64 `json:"dropped"`   // the session did not name them in time
	Foreign   uint64 `json:"foreign"`   // from somebody else
	Malformed uint64 `json:"malformed"` // not a multicast of changes
	Held      int    `json:"held"`      // bytes that wait for the session to name them
}

// SplitFIBBatch reads the header of a FIBBatch body; changes are the rest of body.
func SplitFIBBatch(body []byte) (head fib.Batch, changes []byte, err error) {
	if len(body) < fibHeaderLen {
		return head, nil, fmt.Errorf("header: %w", errShort)
	}
	if body[0] != fibVersion || body[1]&^fibSweep != 0 {
		return head, nil, fmt.Errorf("version %d, flags %#x", body[0], body[1])
	}
	head = fib.Batch{
		Epoch: binary.BigEndian.Uint32(body[2:]),
		Seq:   binary.BigEndian.Uint64(body[6:]),
		Sweep: body[1]&fibSweep != 0,
	}
	return head, body[fibHeaderLen:], nil
}
