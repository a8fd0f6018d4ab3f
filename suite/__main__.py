from suite.interrupt import end_at_interrupt


def main() -> None:
    end_at_interrupt()
    from suite.cli import main as run_command_line

    run_command_line()


if __name__ == "__main__":
    main()
