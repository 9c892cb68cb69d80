module jiemi.cr/tests/sandbox

go 1.26.0
