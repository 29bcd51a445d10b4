// Package forward measures forwarding: the line card's own worker, pipeline,
// tables and AF_XDP ports against the Linux kernel, in the lab of package
// fwdlab, with the same links, generator, sink and routes. Runs of the two
// alternate, so that a change of the machine's mood hits both.
package forward
