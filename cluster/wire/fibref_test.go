package wire

import (
	"bytes"
	"encoding/hex"
	"testing"
)

func sampleRef() FIBRefBody {
	r := FIBRefBody{Epoch: 7, Seq: 1 << 33, Sweep: true, Serial: 1<<40 + 5}
	for i := range r.Digest {
		r.Digest[i] = byte(i)
	}
	return r
}

const goldenRef = "01" + "01" + "00000007" + "0000000200000000" + "0000010000000005" +
	"000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"

func TestFIBRef(t *testing.T) {
	want := sampleRef()
	body := AppendFIBRef(nil, &want)
	if got := hex.EncodeToString(body); got != goldenRef {
		t.Errorf("encoding changed:\n got %s\nwant %s", got, goldenRef)
	}
	if got, err := DecodeFIBRef(body); err != nil || got != want {
		t.Errorf("decoded %+v, %v", got, err)
	}
	for n := range body {
		if _, err := DecodeFIBRef(body[:n]); err == nil {
			t.Errorf("%d of %d bytes are enough", n, len(body))
		}
	}
	for name, bad := range map[string][]byte{
		"too long": append(bytes.Clone(body), 0),
		"version":  append([]byte{2}, body[1:]...),
		"flags":    append([]byte{1, 0x82}, body[2:]...),
	} {
		if r, err := DecodeFIBRef(bad); err == nil {
			t.Errorf("%s: %+v", name, r)
		}
	}
}

func TestFIBCast(t *testing.T) {
	b := append(AppendFIBCast(nil, 5<<32+1), "changes"...)
	if got := hex.EncodeToString(b[:CastHeaderLen]); len(b) != CastHeaderLen+7 || got != "010000000000000500000001" {
		t.Errorf("header %s", got)
	}
	serial, changes, err := DecodeFIBCast(b)
	if err != nil || serial != 5<<32+1 || string(changes) != "changes" {
		t.Errorf("%d %q %v", serial, changes, err)
	}
	for n := range CastHeaderLen + 1 { // no changes: nothing to multicast
		if _, _, err := DecodeFIBCast(b[:n]); err == nil {
			t.Errorf("%d bytes are enough", n)
		}
	}
	for i := range 4 {
		bad := bytes.Clone(b)
		bad[i] ^= 4
		if _, _, err := DecodeFIBCast(bad); err == nil {
			t.Errorf("byte %d is not looked at", i)
		}
	}
}

func FuzzFIBRef(f *testing.F) {
	r := sampleRef()
	f.Add(AppendFIBRef(nil, &r))
	f.Add(AppendFIBHeader(nil, 1, 1, false))
	f.Fuzz(func(t *testing.T, body []byte) {
		r, err := DecodeFIBRef(body)
		if err == nil && !bytes.Equal(AppendFIBRef(nil, &r), body) {
			t.Fatalf("%x became %+v", body, r)
		}
	})
}

func FuzzFIBCast(f *testing.F) {
	f.Add(append(AppendFIBCast(nil, 3), 1, 2, 3))
	f.Add(AppendFIBCast(nil, 3))
	f.Fuzz(func(t *testing.T, b []byte) {
		serial, changes, err := DecodeFIBCast(b)
		if err == nil && (len(changes) == 0 || !bytes.Equal(append(AppendFIBCast(nil, serial), changes...), b)) {
			t.Fatalf("%x became %d %x", b, serial, changes)
		}
	})
}
