package community

import (
	"encoding/binary"
	"fmt"
	"strings"
	"testing"
)

func TestNames(t *testing.T) {
	f, err := NewFilter([]string{
		"65000:100", "65000:*", "*:7", "65000:1:2", "65000:1:*", "4200000000:*:5", "no-export", "blackhole",
		"rt:65000:100", "rt:65000:*", "rt:4200000000:9", "soo:192.0.2.1:3", "65000:100",
	})
	if err != nil {
		t.Fatal(err)
	}
	ext := func(typ, sub byte, rest ...byte) func() {
		return func() { f.Extended([8]byte(append([]byte{typ, sub}, rest...))) }
	}
	std := func(hi, lo uint32) func() { return func() { f.Standard(hi<<16 | lo) } }
	for name, c := range map[string]struct {
		note []func()
		want string
	}{
		"nothing":          {nil, ""},
		"unknown":          {[]func(){std(1, 2)}, ""},
		"exact and any":    {[]func(){std(65000, 100)}, "65000:* 65000:100"},
		"last of any":      {[]func(){std(3, 7)}, "*:7"},
		"both wild":        {[]func(){std(65000, 7)}, "*:7 65000:*"},
		"well known":       {[]func(){std(65535, 65281), std(65535, 666)}, "blackhole no-export"},
		"large":            {[]func(){func() { f.Large(65000, 1, 2) }}, "65000:1:* 65000:1:2"},
		"large, any":       {[]func(){func() { f.Large(4200000000, 9, 5) }}, "4200000000:*:5"},
		"large as such":    {[]func(){func() { f.Large(65000, 100, 0) }}, ""},
		"target":           {[]func(){ext(0, 2, 0xfd, 0xe8, 0, 0, 0, 100)}, "rt:65000:* rt:65000:100"},
		"target, other":    {[]func(){ext(0, 2, 0xfd, 0xe8, 9, 9, 9, 9)}, "rt:65000:*"},
		"origin, not rt":   {[]func(){ext(0, 3, 0xfd, 0xe8, 0, 0, 0, 100)}, ""},
		"four-octet AS":    {[]func(){ext(2, 2, 0xfa, 0x56, 0xea, 0, 0, 9)}, "rt:4200000000:9"},
		"IPv4":             {[]func(){ext(1, 3, 192, 0, 2, 1, 0, 3)}, "soo:192.0.2.1:3"},
		"IPv4 as rt":       {[]func(){ext(1, 2, 192, 0, 2, 1, 0, 3)}, ""},
		"several at once":  {[]func(){std(65000, 100), ext(1, 3, 192, 0, 2, 1, 0, 3), std(1, 1)}, "65000:* 65000:100 soo:192.0.2.1:3"},
		"the same, larger": {[]func(){std(65000, 100), std(65000, 101)}, "65000:* 65000:100"},
	} {
		for _, note := range c.note {
			note()
		}
		if got := f.Names(); got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
		if got := f.Names(); got != "" {
			t.Errorf("%s: %q is left", name, got)
		}
	}
}

func TestEmpty(t *testing.T) {
	var none *Filter
	f, err := NewFilter(nil)
	if err != nil || !f.Empty() || !none.Empty() {
		t.Errorf("not empty (%v)", err)
	}
	if f, err := NewFilter([]string{"no-peer"}); err != nil || f.Empty() {
		t.Errorf("empty (%v)", err)
	}
}

func TestBadNames(t *testing.T) {
	for _, name := range []string{
		"", ":", "1", "65536:1", "1:65536", "-1:1", "1:2:3:4", "a:b", "1:2:4294967296", "rt:1", "rt:*:1", "rt:65000:4294967296",
		"rt:70000:65536", "rt:192.0.2.1:65536", "rt:2001:db8::1:5", "soo::1", "no-such", "0x1:2", " 1:2", "1:2 ", "+1:2",
	} {
		if err := Check(name); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("%q", name)) {
			t.Errorf("%q: %v", name, err)
		}
		if _, err := NewFilter([]string{"1:1", name}); err == nil {
			t.Errorf("%q is taken by a filter", name)
		}
	}
	if _, err := NewFilter(strings.Fields(longNames(25))); err == nil {
		t.Error("too long names are taken")
	}
	if _, err := NewFilter(strings.Fields(longNames(23))); err != nil {
		t.Error(err)
	}
	var many []string
	for i := range Max + 1 {
		many = append(many, fmt.Sprintf("1:%d", i))
	}
	if _, err := NewFilter(many); err == nil {
		t.Error("too many names are taken")
	}
	if f, err := NewFilter(many[1:]); err != nil {
		t.Error(err)
	} else if f.Standard(1<<16 | Max); f.Names() != many[Max] {
		t.Error("the last name is not found")
	}
}

// longNames makes n names of 32 bytes.
func longNames(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "4200000000:4200000000:%d ", 4200000000+i)
	}
	return b.String()
}

// FuzzFilter checks that no name and no community breaks the filter, and that an
// exact name finds its own community.
func FuzzFilter(f *testing.F) {
	f.Add("65000:1", uint32(65000<<16|1), []byte("12345678"))
	f.Add("rt:65000:*", uint32(0), []byte{0, 2, 0xfd, 0xe8, 0, 0, 0, 1})
	f.Add("1:*:3", uint32(7), []byte{})
	f.Fuzz(func(t *testing.T, name string, c uint32, e []byte) {
		own := fmt.Sprintf("%d:%d", c>>16, c&0xffff)
		x, err := NewFilter([]string{name, own})
		if (err == nil) != (Check(name) == nil) {
			t.Fatalf("%q: %v, but Check says %v", name, err, Check(name))
		}
		if err != nil {
			return
		}
		x.Standard(c)
		x.Extended([8]byte(append(e, make([]byte, 8)...)))
		x.Large(c, c, binary.BigEndian.Uint32(append(e, 0, 0, 0, 0)))
		if got := x.Names(); !strings.Contains(" "+got+" ", " "+own+" ") {
			t.Errorf("%q does not have %q", got, own)
		}
	})
}
