// Package header holds views of packet headers: byte slices whose length and
// shape IsValid has checked once, after which the accessors read and write
// without further checks. It also has the Internet checksum and the flow hash.
// Nothing here allocates.
package header
