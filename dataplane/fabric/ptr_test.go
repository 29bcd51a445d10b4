package fabric

import "unsafe"

func ptr(r *ring, off int) unsafe.Pointer { return unsafe.Pointer(&r.mem[off]) }
