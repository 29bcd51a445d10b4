package program

import (
	"log/slog"
	"os"

	"godwit/security/confine"
	"godwit/security/elfsig"
)

// Confine gives up what the module does not need, if the supervisor asks for it;
// it is called before anything is read from others. Where the kernel cannot do
// all of it the module goes on: "show security" tells how it runs.
func Confine(log *slog.Logger) error {
	list, asked := os.LookupEnv(confine.Variable)
	if !asked {
		return nil
	}
	keep, err := elfsig.ParseCaps(list)
	if err != nil {
		return err
	}
	if err := confine.Self(uint64(keep)); err != nil {
		log.Error("the module is not confined as it should be", "error", err)
	}
	return nil
}
