// Package elfsig signs ELF executables and verifies them, DigSig's way: the
// signature lives in the file, in a section of its own.
//
// The section ".godwit.sig" has a fixed size of 1,024 bytes, is not loaded into
// memory, and holds (little endian, text padded with zero bytes):
//
//	offset  size  field
//	     0     8  magic "GODWITSG"
//	     8     2  format version: 2
//	    10     2  size of the section: 1024
//	    12     4  flags: 0
//	    16     8  key id: first 8 bytes of SHA-256 over the SubjectPublicKeyInfo
//	    24     8  not before, seconds since 1970; 0: no bound
//	    32     8  not after, seconds since 1970; 0: no bound
//	    40     8  Linux capabilities the module needs, bit n is capability n
//	    48    32  role
//	    80    64  name
//	   144    64  version (semantic)
//	   208    64  minimum version: the oldest that may run once this one has
//	   272    64  build id
//	   336   624  zero
//	   960    64  Ed25519 signature
//
// The digest is SHA-256 over the whole file with the 64 bytes of the signature
// taken as zero: every other byte is covered, the ELF, program and section
// headers and the fields above included. What is signed (plain Ed25519, RFC
// 8032) is the 16 bytes "godwit-elfsig-2\n" followed by the 32 bytes of the
// digest. Any tool that writes the file after it was signed, strip(1) included,
// breaks the signature: strip first.
//
// What is not ELF (eBPF objects, configurations, images, scripts, trust stores)
// has a detached signature: a file NAME.sig that holds the same 1,024 bytes. Its
// digest is SHA-256 over the file followed by the 1,024 bytes, those of the
// signature zero; what is signed begins with "godwit-detach-2\n".
//
// Private keys are PKCS #8, encrypted or not; see keys.go and pbes2.go.
//
// Nothing here trusts the file: every offset is checked against the size, and
// memory is bounded whatever the headers say.
package elfsig
