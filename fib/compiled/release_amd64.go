//go:build amd64 && !race

package compiled

// release stores for readers that load atomically. Every store of this
// processor is a release; sync/atomic's is sequentially consistent as well, an
// exchange that waits until all stores before it are done. A change stores many
// words and none of them has to wait: Seal does.
func release(p *uint32, v uint32) { *p = v }
