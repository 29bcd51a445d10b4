// Package image makes the quick image: a kernel of Debian and an initramfs with
// the router's static binaries, the kernel modules it needs and a small PID 1.
package image

import (
	"fmt"
	"io"
	"path"
	"slices"
	"strings"
)

// Archive is an initramfs under construction: a cpio archive in the "newc"
// form (kernel documentation, early-userspace buffer format). The kernel
// unpacks several archives one behind the other, so that files can be handed
// to a finished image.
type Archive struct {
	files map[string]entry
}

type entry struct {
	mode uint32 // type and permissions, as in stat(2)
	data []byte // of a file, or the target of a link
}

const (
	typeDir  = 0o040000
	typeFile = 0o100000
	typeLink = 0o120000
)

// NewArchive starts an archive.
func NewArchive() *Archive { return &Archive{files: map[string]entry{}} }

// Dir adds a folder, and those above it.
func (a *Archive) Dir(name string) {
	for name = clean(name); name != "."; name = path.Dir(name) {
		if _, ok := a.files[name]; !ok {
			a.files[name] = entry{mode: typeDir | 0o755}
		}
	}
}

// File adds a file, and the folders above it.
func (a *Archive) File(name string, perm uint32, data []byte) {
	a.Dir(path.Dir(clean(name)))
	a.files[clean(name)] = entry{mode: typeFile | perm, data: data}
}

// Link adds a symbolic link.
func (a *Archive) Link(name, target string) {
	a.Dir(path.Dir(clean(name)))
	a.files[clean(name)] = entry{mode: typeLink | 0o777, data: []byte(target)}
}

func clean(name string) string {
	return strings.TrimPrefix(path.Clean("/"+name), "/") + dotIfEmpty(name)
}

func dotIfEmpty(name string) string {
	if path.Clean("/"+name) == "/" {
		return "."
	}
	return ""
}

// WriteTo writes the archive; the same files give the same bytes.
func (a *Archive) WriteTo(w io.Writer) (int64, error) {
	names := make([]string, 0, len(a.files))
	for name := range a.files {
		names = append(names, name)
	}
	slices.Sort(names) // a folder comes before what is in it
	c := &counter{w: w}
	for i, name := range names {
		e := a.files[name]
		c.record(uint32(i+1), name, e.mode, e.data)
	}
	c.record(0, "TRAILER!!!", 0, nil)
	return c.n, c.err
}

type counter struct {
	w   io.Writer
	n   int64
	err error
}

func (c *counter) write(b []byte) {
	if c.err != nil {
		return
	}
	n, err := c.w.Write(b)
	c.n += int64(n)
	c.err = err
}

func (c *counter) pad() { c.write(make([]byte, (4-c.n%4)%4)) }

func (c *counter) record(inode uint32, name string, mode uint32, data []byte) {
	links := uint32(1)
	if mode&typeDir != 0 {
		links = 2
	}
	c.write(fmt.Appendf(nil, "070701%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X",
		inode, mode, 0, 0, links, 0, len(data), 0, 0, 0, 0, len(name)+1, 0))
	c.write(append([]byte(name), 0))
	c.pad()
	c.write(data)
	c.pad()
}
