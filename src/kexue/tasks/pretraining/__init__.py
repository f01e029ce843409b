"""The parts of `kexue.tasks.Pretrainer`."""
