# The job of vm.Run: every program in /tests. TIMEOUT is that of each.
for program in /tests/*; do
	try "${program##*/}" "$program" -test.v -test.timeout="$TIMEOUT"
done
