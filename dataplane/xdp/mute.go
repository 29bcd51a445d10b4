package xdp

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
)

// Mute is a device whose received frames end before the kernel's protocols,
// but after packet sockets. It is for ports that can't have an XDP program.
type Mute struct {
	prog *ebpf.Program
	link link.Link
}

// MuteDevice mutes the device with this index in the calling thread's
// namespace (TCX, Linux 6.6). It ends with Close or with the process.
func MuteDevice(index int) (*Mute, error) {
	const drop = 2 // TCX_DROP
	prog, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Name: "mute", Type: ebpf.SchedCLS, License: "GPL",
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, drop), asm.Return()},
	})
	if err != nil {
		return nil, fmt.Errorf("load mute program: %w", err)
	}
	l, err := link.AttachTCX(link.TCXOptions{Interface: index, Program: prog, Attach: ebpf.AttachTCXIngress})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("mute device: %w", err), prog.Close())
	}
	return &Mute{prog, l}, nil
}

// Close lets the kernel have the device's frames again.
func (m *Mute) Close() error { return errors.Join(m.link.Close(), m.prog.Close()) }
