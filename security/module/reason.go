package module

import (
	"errors"
	"os"

	"godwit/security/elfsig"
	"godwit/security/trust"
)

// reasons names errors, the first that matches. The words are stable: alarms
// and filters use them.
var reasons = []struct {
	err  error
	word string
}{
	{elfsig.ErrUnsigned, "unsigned"},
	{trust.ErrRollback, "rollback"},
	{trust.ErrStore, "trust-store"},
	{trust.ErrRevoked, "revoked"},
	{trust.ErrUntrusted, "untrusted-key"},
	{trust.ErrDevelopment, "development-key"},
	{trust.ErrKeyRole, "key-role"},
	{ErrRole, "wrong-role"},
	{ErrDynamic, "not-static"},
	{elfsig.ErrExpired, "expired"},
	{elfsig.ErrNotYetValid, "not-yet-valid"},
	{elfsig.ErrBadSignature, "bad-signature"},
	{elfsig.ErrFormat, "malformed-signature"},
	{elfsig.ErrELF, "malformed-file"},
	{os.ErrNotExist, "missing"},
	{ErrRefused, "refused"},
}

// Reason is the word for why Verify failed; "unreadable" for what is not a refusal.
func Reason(err error) string {
	for _, r := range reasons {
		if errors.Is(err, r.err) {
			return r.word
		}
	}
	return "unreadable"
}
