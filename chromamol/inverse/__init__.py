"""From density fields to rate maps with error bars."""
