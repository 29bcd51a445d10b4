package elfsig

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"
)

// version is a parsed semantic version (semver.org 2.0.0) without build metadata.
type version struct {
	num [3]uint64
	pre []string
}

func parseVersion(s string) (version, error) {
	var v version
	bad := func(why string) (version, error) {
		return version{}, fmt.Errorf("%q: %s; want MAJOR.MINOR.PATCH[-PRERELEASE][+BUILD]", s, why)
	}
	rest, build, hasBuild := strings.Cut(s, "+")
	if hasBuild && !identifiers(build, false) {
		return bad("bad build metadata")
	}
	core, pre, hasPre := strings.Cut(rest, "-")
	if hasPre {
		if !identifiers(pre, true) {
			return bad("bad pre-release")
		}
		v.pre = strings.Split(pre, ".")
	}
	parts := strings.Split(core, ".")
	if len(parts) != len(v.num) {
		return bad("not three numbers")
	}
	for i, p := range parts {
		n, err := strconv.ParseUint(p, 10, 64)
		if err != nil || strconv.FormatUint(n, 10) != p {
			return bad("bad number")
		}
		v.num[i] = n
	}
	return v, nil
}

// identifiers checks a dotted list; strict forbids leading zeros in numbers.
func identifiers(s string, strict bool) bool {
	for id := range strings.SplitSeq(s, ".") {
		if id == "" || strings.Trim(id, "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-") != "" {
			return false
		}
		if strict && len(id) > 1 && id[0] == '0' && numeric(id) {
			return false
		}
	}
	return true
}

func numeric(s string) bool { return s != "" && strings.Trim(s, "0123456789") == "" }

// CompareVersions orders two semantic versions as semver.org says (-1, 0, +1);
// a malformed one is below every other.
func CompareVersions(a, b string) int {
	va, errA := parseVersion(a)
	vb, errB := parseVersion(b)
	switch {
	case errA != nil && errB != nil:
		return 0
	case errA != nil:
		return -1
	case errB != nil:
		return 1
	}
	for i := range va.num {
		if c := cmp.Compare(va.num[i], vb.num[i]); c != 0 {
			return c
		}
	}
	return comparePre(va.pre, vb.pre)
}

// comparePre: a release is above its pre-releases.
func comparePre(a, b []string) int {
	if len(a) == 0 || len(b) == 0 {
		return cmp.Compare(len(b), len(a))
	}
	for i := 0; i < len(a) && i < len(b); i++ {
		if c := compareIdentifier(a[i], b[i]); c != 0 {
			return c
		}
	}
	return cmp.Compare(len(a), len(b))
}

// compareIdentifier: numbers by value and below words. Numbers have no leading
// zero, so a longer one is larger, whatever its size.
func compareIdentifier(a, b string) int {
	na, nb := numeric(a), numeric(b)
	switch {
	case na && nb:
		if c := cmp.Compare(len(a), len(b)); c != 0 {
			return c
		}
		return cmp.Compare(a, b)
	case na:
		return -1
	case nb:
		return 1
	}
	return cmp.Compare(a, b)
}

// CheckVersion tells whether the text is a semantic version.
func CheckVersion(s string) error { return checkVersion("version", s) }
