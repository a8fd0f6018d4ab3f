from suite.claims import all_claims


def test_the_six_rows_stand_in_the_order_of_the_lecture():
    assert [(claim.title, claim.small, claim.large) for claim in all_claims()] == [
        ("Speed for one update (no parallel)", "Faster", "Slower"),
        ("Speed for one update (with parallel)", "Same", "Same (not too large)"),
        ("Time for one epoch", "Slower", "Faster"),
        ("Gradient", "Noisy", "Stable"),
        ("Optimization", "Better", "Worse"),
        ("Generalization", "Better", "Worse"),
    ]


def test_every_rule_for_a_verdict_is_one_sentence_that_says_when_it_holds():
    for claim in all_claims():
        assert claim.rule.startswith("Holds when ")
        assert claim.rule.endswith(".")
        assert ". " not in claim.rule.replace("1.5 ", "")
