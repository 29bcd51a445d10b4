// Package sampling takes one of N received frames, and tells collectors of them by sFlow version 5
// or IPFIX (RFC 7011, with RFC 5476 and 5477).
//
//	worker (1 Sampler each)                event loop (1 Exporter)
//
//	ethernet-input ─▶ Sampler ─▶ Ring ─┐
//	                                   ├─▶ Exporter.Sample ─▶ Flush ─▶ datagrams
//	express path's ring ───────────────┘   Exporter.Counters ─┘
//
// Workers copy the first bytes of a frame to a ring that they never wait for: full, it costs the sample and is
// counted. The Exporter is pure: no goroutine, socket or clock; time comes in, datagrams go out. What
// it keeps is bounded by one datagram a collector.
package sampling
