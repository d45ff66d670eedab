"""How much each weight of a checkpoint can be truncated: spectra and output errors of every site for every rank."""
