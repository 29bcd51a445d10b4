//go:build !amd64 || race

package compiled

import "sync/atomic"

// release stores for readers that load atomically.
func release(p *uint32, v uint32) { atomic.StoreUint32(p, v) }
