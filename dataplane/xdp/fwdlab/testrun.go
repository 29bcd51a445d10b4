package fwdlab

import (
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// testRun is BPF_PROG_TEST_RUN of an XDP program in live-frame mode. The eBPF
// library has it too, but can't set the batch.
type testRun struct {
	attr testRunAttr
	data []byte
	ctx  xdpMD
	pin  runtime.Pinner
}

// testRunAttr is the part "test" of union bpf_attr.
type testRunAttr struct {
	prog, retval                uint32
	dataSizeIn, dataSizeOut     uint32
	dataIn, dataOut             uint64
	repeat, duration            uint32
	contextSizeIn, contextSizeO uint32
	contextIn, contextOut       uint64
	flags, cpu, batch           uint32
	_                           uint32
}

func newTestRun(prog int, data []byte, ctx xdpMD) *testRun {
	t := &testRun{data: data, ctx: ctx}
	t.pin.Pin(t)
	t.pin.Pin(&t.data[0])
	t.attr = testRunAttr{
		prog: uint32(prog), repeat: runsPerCall, flags: unix.BPF_F_TEST_XDP_LIVE_FRAMES, batch: runBatch,
		dataSizeIn: uint32(len(data)), dataIn: uint64(uintptr(unsafe.Pointer(&t.data[0]))),
		contextSizeIn: uint32(unsafe.Sizeof(ctx)), contextIn: uint64(uintptr(unsafe.Pointer(&t.ctx))),
	}
	return t
}

// call runs the program runsPerCall times.
func (t *testRun) call() error {
	_, _, e := unix.Syscall(unix.SYS_BPF, unix.BPF_PROG_TEST_RUN, uintptr(unsafe.Pointer(&t.attr)), unsafe.Sizeof(t.attr))
	if e != 0 {
		return e
	}
	return nil
}

func (t *testRun) release() { t.pin.Unpin() }
