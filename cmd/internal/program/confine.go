package program

import (
	"log/slog"
	"os"

	"godwit/security/confine"
)

// Confine gives up what the module does not need, if the supervisor asks for it;
// it is called before anything is read from others. A module that cannot be
// confined must not go on.
func Confine(log *slog.Logger) error {
	text, asked := os.LookupEnv(confine.Variable)
	if !asked {
		return nil
	}
	p, err := confine.Decode(text)
	if err != nil {
		return err
	}
	if err := confine.Self(p); err != nil {
		return err
	}
	log.Info("confined", "uid", p.UID, "capabilities", p.Caps)
	return nil
}
