from dglab.cli import main

main()
