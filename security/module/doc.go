// Package module runs signed executables, and nothing else.
//
//	file ─open, copy─▶ memfd ─seal─▶ parse, trust, role, time, digest ─▶ Image ─Start─▶ process
//	                     └────────── what is verified is what is executed ──────┘
//
// Only Loader.Verify makes an Image and Start takes nothing else: bytes that
// were not verified cannot be executed. After the copy the path is not used
// again, and the seals (write, grow, shrink, seal) keep the copy as it was
// verified, so a file swapped or rewritten afterwards changes nothing.
//
// A Loader holds the sealed images. A second start of a file whose device,
// inode, size, modification and change time are the same costs neither a copy
// nor a digest; trust, role and validity are checked every time.
//
// Processes are started by one thread that lives as long as the Loader, because
// the kernel's parent-death signal is the death of the thread: when the
// supervisor dies, however it dies, its modules are killed.
//
// All methods may be called from any goroutine; Verify and Start block (disk,
// digest, exec), so event loops call them with Handler.Async.
package module
