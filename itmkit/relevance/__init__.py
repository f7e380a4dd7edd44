"""What else is relevant than a picture's own captions: labels, ratings, judgements, and rankings by them."""
